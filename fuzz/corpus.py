"""The kept corpora: one JSON list of texts per target, so that they diff, and the folders of files libFuzzer wants.

    python fuzz/corpus.py unpack FOLDER         writes FOLDER/<target>/ from fuzz/corpus/<target>.json
    python fuzz/corpus.py pack FOLDER [--max-bytes N]
                                                writes fuzz/corpus/<target>.json from FOLDER/<target>/
    python fuzz/corpus.py seeds                 writes fuzz/seeds/<target>.json from tests/data/eval

Inputs are read as text, invalid bytes replaced, which is what the targets do too. The shortest inputs are kept first.
"""

import gzip
import hashlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
DATA = ROOT.parent / "tests" / "data" / "eval"

# What the files of tests/data/eval do not show.
SCORES = ["R2: 3", "R3: 4", "R8: 1", "R5: 5", "R4: 2"]
JUDGE_REPLIES = [separator.join(form(*score.split(": ")) for score in SCORES) for form, separator in [
    ("{}: {}".format, "\n"), ("**{}:** {}/5".format, "\n"), ("{} (terminology) = [{}]".format, ", "),
    ("| {} | {} |".format, "\n"), ("- _{}_: {} out of 5.".format, "\n"), ('"{}": {}'.format, ",\n")]]
JUDGE_REPLIES += ["<think>R2: 1</think>" + JUDGE_REPLIES[0], "<think>R2: 1", JUDGE_REPLIES[0] + "\nR2: 4"]
CHOICES = "What is cut? A. Liver\nB. Gallbladder.\nC. Spleen"
QUESTIONS = [
    (CHOICES, "B", "<think>Under the liver.</think>\n<answer>B</answer>"), (CHOICES, "B. gallbladder", "The answer is (b)."),
    (CHOICES, "Spleen", "C) spleen"), ("(A) liver, (B) spleen", "A", "<answer>A</answer><answer>B</answer>"),
    ("A: yes B: no", "no", "B or A"), ("Is there bleeding?", "Yes.", "yes and no"), ("Which letter?", "C", "(c)")]
ROWS = ['{"id": 1, "c": {"id": 2}}', '{"id": "]},\\"{"}', '{"id": [1, [2]]}']
ROW_FILES = [
    "[" + ", ".join(ROWS) + "]", "\ufeff [\n  " + ",\n  ".join(ROWS) + "\n]\n", "\n".join(ROWS), "[]", "[1,,null,\"x,\",-1.5]",
    "\ufeff" + "\r\n\n".join(ROWS) + " \n", '[{"id": "x, "b": [1]}, {"id": 2}]', '[{"id": [1}, {"id": 2}, {"id": 3}]',
    '[{"id": 1]]}, {"id": 2}]', '[{"id": 1}, {"id": 2}, {"id"', "[] []"]


def write(path: Path, texts) -> None:
    texts = sorted(set(texts), key=lambda text: (len(text), text))
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(texts, indent=0, ensure_ascii=True) + "\n")


def unpack(folder: Path) -> None:
    for kind in ("seeds", "corpus"):
        for path in sorted((ROOT / kind).glob("*.json")):
            target = folder / path.stem
            target.mkdir(parents=True, exist_ok=True)
            for text in json.loads(path.read_text()):
                data = text.encode()
                (target / hashlib.sha1(data).hexdigest()).write_bytes(data)


def pack(folder: Path, max_bytes: int) -> None:
    for target in sorted(path for path in folder.iterdir() if path.is_dir()):
        texts = {path.read_bytes().decode("utf-8", "replace") for path in target.iterdir()}
        kept, total = [], 0
        for text in sorted(texts, key=lambda text: (len(text), text)):
            total += len(json.dumps(text)) + 2
            if total > max_bytes:
                break
            kept.append(text)
        write(ROOT / "corpus" / f"{target.name}.json", kept)
        print(f"{target.name}: {len(kept)} of {len(texts)} inputs")


def seeds() -> None:
    cases = json.loads((DATA / "parser_cases.json").read_text())
    found = {name: [case["text"] for case in cases[key] if len(case["text"]) <= 1000]
             for name, key in [("tag", "tal"), ("stg", "stg"), ("dvc", "dvc"), ("cvs", "cvs"), ("skill", "sa")]}
    found["judge_reply"] = [case["response"] for case in cases["judge"]] + JUDGE_REPLIES
    found["vqa"] = ["\n\n".join(case) for case in QUESTIONS]
    found["next_action"] = [f"{case['data_source']}\n{case['question']}\n{case['prediction']}" for case in cases["nap"]]

    def load(name):
        return json.loads(gzip.open(DATA / "seed1" / f"{name}.json.gz").read())

    records, answers = load("ground_truth"), load("predictions")
    by_kind = {}
    for record, answer in zip(records, answers):
        by_kind.setdefault((record["qa_type"], record.get("data_source")), []).append((record, answer))
    found["record"], found["evaluate"], found["messages"] = [], [], []
    for pairs in by_kind.values():
        for record, answer in sorted(pairs, key=lambda pair: len(json.dumps(pair)))[:2]:
            record = dict(record)
            record.setdefault("video", ["a/1.jpg", "a/2.jpg"])
            if isinstance(record["video"], list):
                record["video"] = record["video"][:2]
            if "sampled_video_frames" in record:
                record["sampled_video_frames"] = record["sampled_video_frames"][:2]
            found["record"].append(json.dumps(record))
            found["evaluate"].append(json.dumps([record | answer]))
    found["file"] = ROW_FILES + [
        text for record in sorted(found["record"], key=len)[:6]
        for text in (f"[{record}]", f"[{record},\n{record}]", f"{record}\n{record}\n")]
    part = {"type": "video", "video": ["1.png", "2.png"], "fps": 2.0}
    image = {"type": "image", "image": "1.png"}
    for content in ["x", [{"type": "text", "text": "x"}], [part, image], [{"type": "video", "video": "v.mp4"}]]:
        for role in ["system", "user", "assistant"]:
            found["messages"].append(json.dumps({"messages": [{"role": role, "content": content}]}))
    for name, texts in found.items():
        write(ROOT / "seeds" / f"{name}.json", texts)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[:1] == ["unpack"] and len(arguments) == 2:
        unpack(Path(arguments[1]))
    elif arguments[:1] == ["pack"] and len(arguments) in (2, 4):
        pack(Path(arguments[1]), int(arguments[3]) if len(arguments) == 4 else 60_000)
    elif arguments == ["seeds"]:
        seeds()
    else:
        sys.exit(__doc__)
