//! Where requests go: the base address that users give, made into the one to post to.

use reqwest::Url;

use super::ChatError;

/// `base_url` with `/chat/completions` on its path.
pub(super) fn completions_url(base_url: &str) -> Result<Url, ChatError> {
    // An address that is wrong may hold a key: it is not told unless it could be read.
    let fatal = |what: &str| {
        ChatError::Fatal(format!(
            "base_url {what}: it should be like https://api.openai.com/v1 or http://localhost:8000/v1"
        ))
    };
    let mut url = Url::parse(base_url.trim()).map_err(|error| fatal(&format!("is no address ({error})")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(fatal("is not http or https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(fatal("holds a name or password, which belong in an environment variable"));
    }
    let appended = ["chat", "completions"];
    let given: Vec<String> = url.path_segments().into_iter().flatten().map(str::to_owned).collect();
    if !given.ends_with(&appended.map(str::to_owned)) {
        url.path_segments_mut().map_err(|()| fatal("has no path"))?.pop_if_empty().extend(appended);
    }
    Ok(url)
}

/// Whether no proxy can be meant.
pub(super) fn is_this_machine(url: &Url) -> bool {
    let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (base, expected) in [
            ("https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions"),
            (" http://localhost:8000/v1/ ", "http://localhost:8000/v1/chat/completions"),
            ("http://h/v1/chat/completions", "http://h/v1/chat/completions"),
            ("https://h/d/x?api-version=3", "https://h/d/x/chat/completions?api-version=3"),
        ] {
            assert_eq!(completions_url(base).unwrap().as_str(), expected);
        }
        for (base, what) in [
            ("", "no address"),
            ("api.openai.com/v1", "no address"),
            ("ftp://h/v1", "not http"),
            ("https://me:secret@h/v1", "name or password"),
        ] {
            let error = completions_url(base).unwrap_err().to_string();
            assert!(error.contains(what) && !error.contains("secret"), "{base}: {error}");
        }
    }

    #[test]
    fn no_proxy_stands_before_this_machine() {
        let is_here = |address: &str| is_this_machine(&Url::parse(address).unwrap());
        assert!(["http://localhost:8000", "http://127.0.0.1", "http://[::1]:80"].into_iter().all(is_here));
        assert!(!["https://api.openai.com", "http://10.0.0.1"].into_iter().any(is_here));
    }
}
