"""How fast medgrpo is against torch, transformers and Pillow on this machine: one checkpoint, one run, ratios.

    cargo build --release -p medgrpo
    python benches/against_torch.py [--binary target/release/medgrpo] [--rounds 3] [--json FILE]

Packages: as listed in tests/fixtures/checkpoints.py. In every round `medgrpo bench` and tests/fixtures/bench_peer.py do
each piece of work one right after the other, on the same files with the same threads, and the ratio is taken within the
round, so that a busy or throttled machine moves both sides alike. Below 1 medgrpo is the faster one. Both sides must
report the same number of tokens, or the run ends.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "tests" / "fixtures"
# Pictures to preprocess, height × width.
PICTURES = [(480, 640), (1080, 1920)]


def run(command: list) -> str:
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stderr}")
    return result.stdout


def make_inputs(folder: Path, checkpoint_options: list) -> None:
    """The random checkpoint with its record, and pictures to preprocess."""
    run([sys.executable, FIXTURES / "make_bench_checkpoint.py", "--out", folder, *checkpoint_options])
    sys.path.insert(0, str(FIXTURES))
    from parity_inputs import draw
    from PIL import Image

    for height, width in PICTURES:
        name = f"picture_{height}x{width}"
        Image.fromarray(draw(1, height, width)).save(folder / "media" / f"{name}.jpg", quality=90)
        messages = [
            {"role": "user", "content": [
                {"type": "image", "image": f"media/{name}.jpg"},
                {"type": "text", "text": "Which instrument is in the image?"},
            ]},
            {"role": "assistant", "content": [{"type": "text", "text": "The grasper."}]},
        ]
        (folder / f"{name}.jsonl").write_text(json.dumps({"messages": messages}) + "\n", encoding="utf-8")


def comparisons(args, folder: Path) -> dict:
    """What is compared: its name, medgrpo's word for it, the peer's, and the sizes that both take."""
    found = {}
    for batch_size in args.batch_sizes:
        sizes = {"data": folder / "messages.jsonl", "batch_size": batch_size, "threads": args.threads}
        found[f"forward, batch {batch_size}"] = ("forward", "forward", sizes)
        found[f"train step, batch {batch_size}"] = ("train", "train", sizes)
        found[f"train step (their loss on all logits), batch {batch_size}"] = ("train", "train_all_logits", sizes)
        one, many = ({**sizes, "max_new_tokens": count} for count in [1, args.max_new_tokens])
        found[f"first token, batch {batch_size}"] = ("generate", "generate", one)
        found[f"generate {args.max_new_tokens}, batch {batch_size}"] = ("generate", "generate", many)
    for height, width in PICTURES:
        # Pillow works on one thread; so do both here.
        picture = {"data": folder / f"picture_{height}x{width}.jsonl", "batch_size": 4, "threads": 1}
        for peer in ["pillow", "torchvision"]:
            found[f"preprocess {height}x{width}, {peer}"] = ("process", f"process_{peer}", picture)
    return {name: parts for name, parts in found.items() if args.only in name}


class Peer:
    """bench_peer.py at our disposal: idle while medgrpo works."""

    def __enter__(self):
        command = [sys.executable, str(FIXTURES / "bench_peer.py")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def ask(self, request: dict) -> dict:
        self.process.stdin.write(json.dumps(request, default=str) + "\n")
        self.process.stdin.flush()
        reply = self.process.stdout.readline()
        if not reply:
            sys.exit(f"the peer ended on {request}")
        return json.loads(reply)


def measure(args, folder: Path, peer: Peer, ours: str, theirs: str, sizes: dict) -> tuple[float, float]:
    """Median seconds of both sides in one round."""
    sizes = {"model": folder / "model", "repetitions": args.repetitions, "max_new_tokens": args.max_new_tokens, **sizes}
    options = [word for key, value in sizes.items() for word in (f"--{key.replace('_', '-')}", value)]
    mine = json.loads(run([args.binary, "bench", "--what", ours, "--json", *options]))
    reply = peer.ask({"what": theirs, **sizes})
    if mine["tokens_per_step"] != reply["tokens_per_step"]:
        sys.exit(f"{ours}: {mine['tokens_per_step']} tokens against {reply['tokens_per_step']}: the work is not the same")
    return mine["median_sec"], statistics.median(reply["seconds"])


def decode(rounds: dict, args) -> None:
    """Adds the time of one decoding step: generating many tokens less the first one, by their number."""
    for batch_size in args.batch_sizes:
        one = rounds.get(f"first token, batch {batch_size}")
        many = rounds.get(f"generate {args.max_new_tokens}, batch {batch_size}")
        if one and many:
            steps = args.max_new_tokens - 1
            rounds[f"one decoding step, batch {batch_size}"] = [
                tuple((long - short) / steps for long, short in zip(*pair)) for pair in zip(many, one)
            ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=ROOT / "target" / "release" / "medgrpo")
    parser.add_argument("--inputs", type=Path, help="folder for the checkpoint and the pictures; made where absent")
    parser.add_argument("--checkpoint", default="", help='sizes for a new one: "--hidden 512 --layers 8"')
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repetitions", type=int, default=5, help="timed runs of each side in a round")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="comparisons with this in their name")
    parser.add_argument("--json", type=Path, help="also write all figures here")
    args = parser.parse_args()
    if not args.binary.exists():
        parser.error(f"{args.binary} is not there: cargo build --release -p medgrpo")
    if args.max_new_tokens < 2:
        parser.error("--max-new-tokens must be at least 2")
    with tempfile.TemporaryDirectory() as temporary, Peer() as peer:
        folder = args.inputs or Path(temporary)
        if not (folder / "model").exists():
            make_inputs(folder, args.checkpoint.split())
        rounds: dict[str, list[tuple[float, float]]] = {}
        for number in range(args.rounds):
            for name, parts in comparisons(args, folder).items():
                print(f"round {number + 1} of {args.rounds}: {name}", file=sys.stderr)
                rounds.setdefault(name, []).append(measure(args, folder, peer, *parts))
    decode(rounds, args)

    result = {}
    print("| what | medgrpo, ms | theirs, ms | ratio | ratios of the rounds |\n| --- | --: | --: | --: | --- |")
    for name, pairs in rounds.items():
        ours, theirs = (statistics.median(side) for side in zip(*pairs))
        ratios = [mine / peer for mine, peer in pairs]
        ratio = statistics.median(ratios)
        result[name] = {"ours_sec": ours, "theirs_sec": theirs, "ratio": ratio, "ratios": ratios}
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"| {name} | {ours * 1e3:.2f} | {theirs * 1e3:.2f} | {ratio:.2f} | {spread} |")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
