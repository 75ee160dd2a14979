//! Messages to the text a model was trained on, through the checkpoint's own Jinja chat template.
//!
//! The environment is that of transformers: blocks trimmed, Python's string methods, `break` and `continue`,
//! `raise_exception`, `strftime_now` and Python's `tojson`. `{% generation %}` marks assistant text for other tools;
//! its content is rendered like any other.

use std::path::Path;

use minijinja::{Environment, ErrorKind, Value as JinjaValue};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use super::{
    ProcessorError,
    template_functions::{strftime_now, to_json},
    tokenizer::{TOKENIZER_CONFIG_FILE, Tokenizer, read_object},
};

/// Name of the template's own file.
pub(super) const CHAT_TEMPLATE_FILE: &str = "chat_template.jinja";
const LEGACY_TEMPLATE_FILE: &str = "chat_template.json";

/// Template of checkpoints made from nothing; renders what Qwen2.5-VL's own template renders.
pub const QWEN25_VL_TEMPLATE: &str = include_str!("qwen2_5_vl.jinja");

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said or shown, in order.
    pub content: Vec<ChatPart>,
}

impl ChatMessage {
    /// A turn of plain text.
    pub fn text(role: impl Into<String>, text: impl Into<String>) -> Self {
        Self { role: role.into(), content: vec![ChatPart::Text(text.into())] }
    }
}

/// A piece of a turn; pixels travel beside the messages, in order of appearance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChatPart {
    /// Text.
    Text(String),
    /// A place for the next image.
    Image,
    /// A place for the next video.
    Video,
}

impl Serialize for ChatPart {
    /// The dictionaries of Hugging Face's chat form.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::Text(text) => {
                map.serialize_entry("type", "text")?;
                map.serialize_entry("text", text)?;
            }
            Self::Image => map.serialize_entry("type", "image")?,
            Self::Video => map.serialize_entry("type", "video")?,
        }
        map.end()
    }
}

/// A compiled chat template.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    globals: serde_json::Map<String, Value>,
}

impl ChatTemplate {
    /// Finds the template of a checkpoint directory: `chat_template.jinja`, else `chat_template.json`, else
    /// `chat_template` of `tokenizer_config.json` (one template, or a list with one named `default`).
    ///
    /// # Errors
    /// When there is none, or it does not compile.
    pub fn from_dir(dir: &Path, tokenizer: &Tokenizer) -> Result<Self, ProcessorError> {
        let path = dir.join(CHAT_TEMPLATE_FILE);
        if path.exists() {
            let source = std::fs::read_to_string(&path).map_err(ProcessorError::io(&path))?;
            return Self::new(&path, &source, tokenizer);
        }
        for file in [LEGACY_TEMPLATE_FILE, TOKENIZER_CONFIG_FILE] {
            let path = dir.join(file);
            if !path.exists() {
                continue;
            }
            if let Some(value) = read_object(&path)?.get("chat_template").filter(|value| !value.is_null()) {
                return Self::new(&path, &default_template(&path, value)?, tokenizer);
            }
        }
        Err(ProcessorError::file(
            path,
            "no chat template here, in chat_template.json or in tokenizer_config.json",
        ))
    }

    /// Compiles a template; `path` names it in errors.
    ///
    /// # Errors
    /// When it does not compile.
    pub fn new(path: &Path, source: &str, tokenizer: &Tokenizer) -> Result<Self, ProcessorError> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<JinjaValue, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", to_json);
        // Jinja itself reads every line ending as a line feed.
        let source = unmark_generation(&source.replace("\r\n", "\n").replace('\r', "\n"));
        let compiled = environment.add_template_owned(TEMPLATE, source);
        compiled
            .map_err(|error| ProcessorError::file(path, format!("the chat template is broken: {error:#}")))?;
        Ok(Self { environment, globals: tokenizer.roles().clone() })
    }

    /// The text of a conversation; `add_generation_prompt` opens the assistant's next turn at its end.
    ///
    /// # Errors
    /// When the template refuses the messages.
    pub fn render(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
    ) -> Result<String, ProcessorError> {
        #[derive(Serialize)]
        struct Context<'a> {
            messages: &'a [ChatMessage],
            add_generation_prompt: bool,
            tools: Option<()>,
            documents: Option<()>,
            #[serde(flatten)]
            globals: &'a serde_json::Map<String, Value>,
        }
        let context =
            Context { messages, add_generation_prompt, tools: None, documents: None, globals: &self.globals };
        let render = || self.environment.get_template(TEMPLATE)?.render(context);
        render().map_err(|error| {
            ProcessorError::Conversation(format!("the chat template refuses the messages: {error:#}"))
        })
    }
}

/// Name of the template inside its environment; without an extension that would turn on escaping.
const TEMPLATE: &str = "chat_template";

fn default_template(path: &Path, value: &Value) -> Result<String, ProcessorError> {
    let named = |entry: &&Value| entry.get("name").and_then(Value::as_str) == Some("default");
    let source = match value {
        Value::String(source) => Some(source.as_str()),
        Value::Array(list) => {
            list.iter().find(named).and_then(|entry| entry.get("template")).and_then(Value::as_str)
        }
        Value::Object(map) => map.get("default").and_then(Value::as_str),
        _ => None,
    };
    let message = "must be a template, or a list of named templates with one called `default`";
    source.map(str::to_owned).ok_or_else(|| ProcessorError::key(path, "chat_template", message))
}

/// Turns `{% generation %}` into `{% if true %}`, with the same effect on white space, and its end likewise.
fn unmark_generation(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let inner = &tag[2..end];
        let (open, name) = inner.strip_prefix(['-', '+']).map_or(("", inner), |name| (&inner[..1], name));
        let (name, close) =
            name.strip_suffix(['-', '+']).map_or((name, ""), |name| (name, &inner[inner.len() - 1..]));
        match name.trim() {
            "generation" => out.push_str(&format!("{{%{open} if true {close}%}}")),
            "endgeneration" => out.push_str(&format!("{{%{open} endif {close}%}}")),
            _ => out.push_str(&tag[..end + 2]),
        }
        rest = &tag[end + 2..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::{super::golden, *};

    fn render(source: &str, messages: &[ChatMessage]) -> Result<String, ProcessorError> {
        ChatTemplate::new(Path::new("t"), source, golden::processor().tokenizer())?.render(messages, false)
    }

    #[test]
    fn the_default_system_turn_stands_only_where_there_is_none() {
        let user =
            ChatMessage { role: "user".into(), content: vec![ChatPart::Video, ChatPart::Text("Hi".into())] };
        let asked = "<|im_start|>user\n<|vision_start|><|video_pad|><|vision_end|>Hi<|im_end|>\n";
        let default = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n";
        assert_eq!(
            render(QWEN25_VL_TEMPLATE, std::slice::from_ref(&user)).unwrap(),
            format!("{default}{asked}")
        );
        let system = ChatMessage::text("system", "Be brief.");
        let own = "<|im_start|>system\nBe brief.<|im_end|>\n";
        assert_eq!(render(QWEN25_VL_TEMPLATE, &[system, user]).unwrap(), format!("{own}{asked}"));
        assert_eq!(render(QWEN25_VL_TEMPLATE, &[]).unwrap(), "");
    }

    #[test]
    fn generation_markers_leave_the_text_as_it_is() {
        let marked = "{% for m in messages %}\n{%- generation -%}\n  {{ m.role }}\n{% endgeneration %}\n{% endfor %}!\n";
        let plain = marked.replace("endgeneration", "endif").replace("generation", "if true");
        let messages = [ChatMessage::text("a", "x"), ChatMessage::text("b", "y")];
        assert_eq!(render(marked, &messages).unwrap(), render(&plain, &messages).unwrap());
        assert_eq!(render(marked, &messages).unwrap(), "a\nb\n!");
        assert_eq!(unmark_generation("{%+ generation%}é{%"), "{%+ if true %}é{%");
    }

    #[test]
    fn pythons_functions_are_there() {
        let messages = [ChatMessage::text("user", " <b>'x' ")];
        let source =
            "{{ messages[0].content[0].text.strip().upper() }}|{{ {'b': [1, none], 'a': '<é>'} | tojson }}";
        assert_eq!(render(source, &messages).unwrap(), "<B>'X'|{\"b\": [1, null], \"a\": \"<é>\"}");
        assert_eq!(
            render("{{ {'b': 1, 'a': {}} | tojson(indent=1, sort_keys=true) }}", &[]).unwrap(),
            "{\n \"a\": {},\n \"b\": 1\n}"
        );
        assert_eq!(
            render("{% for m in [1, 2, 3] %}{% if m == 2 %}{% break %}{% endif %}{{ m }}{% endfor %}", &[])
                .unwrap(),
            "1"
        );
        assert_eq!(render("{{ eos_token }}{{ bos_token }}\r\n.", &[]).unwrap(), "<|im_end|>\n.");
        assert_eq!(render("{{ strftime_now('%Y') | length }}", &[]).unwrap(), "4");
        let refused = render("{{ raise_exception('roles must alternate') }}", &[]).unwrap_err();
        assert!(refused.to_string().contains("roles must alternate"), "{refused}");
        for broken in [
            "{% for %}",
            "{{ nothing.at.all }}",
            "{{ 'a' | tojson(ensure_ascii=true) }}",
            "{{ strftime_now('%') }}",
        ] {
            assert!(render(broken, &[]).is_err(), "{broken}");
        }
    }

    #[test]
    fn the_template_is_looked_for_in_three_places() {
        let dir = tempfile::tempdir().unwrap();
        let tokenizer = golden::processor().tokenizer().clone();
        let find = || {
            ChatTemplate::from_dir(dir.path(), &tokenizer).and_then(|template| template.render(&[], false))
        };
        let write = |file: &str, text: &str| std::fs::write(dir.path().join(file), text).unwrap();
        assert!(find().unwrap_err().to_string().contains(CHAT_TEMPLATE_FILE));
        write(TOKENIZER_CONFIG_FILE, r#"{"chat_template": [{"name": "tool_use", "template": "no"}]}"#);
        assert!(find().unwrap_err().to_string().contains("default"));
        write(TOKENIZER_CONFIG_FILE, r#"{"chat_template": [{"name": "default", "template": "listed"}]}"#);
        assert_eq!(find().unwrap(), "listed");
        write(TOKENIZER_CONFIG_FILE, r#"{"chat_template": "config"}"#);
        assert_eq!(find().unwrap(), "config");
        write(LEGACY_TEMPLATE_FILE, r#"{"chat_template": "legacy"}"#);
        assert_eq!(find().unwrap(), "legacy");
        write(CHAT_TEMPLATE_FILE, "own");
        assert_eq!(find().unwrap(), "own");
    }
}
