"""How fast a GRPO step of medgrpo is against TRL's GRPOTrainer on this machine: one checkpoint, one run, ratios.

    cargo build --release -p medgrpo
    python benches/against_trl.py [--binary target/release/medgrpo] [--devices cpu tch] [--rounds 2] [--json FILE]

Packages: as listed in tests/fixtures/trl_peer.py and tests/fixtures/checkpoints.py. Both sides sample the same number of
completions of the same length from the same prompts with images, score them with the same reward, and update all
parameters with AdamW in f32. They take turns within a round, so that a busy machine moves both. Below 1 medgrpo is the
faster one.
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


def run(command: list, text: str = "") -> str:
    result = subprocess.run([str(word) for word in command], input=text, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stderr}")
    return result.stdout


def make_inputs(folder: Path, checkpoint_options: list) -> None:
    run([sys.executable, FIXTURES / "make_bench_checkpoint.py", "--out", folder, *checkpoint_options])


def make_record(folder: Path, num_images: int, num_words: int) -> Path:
    """A question about images of 112 × 112 pixels, 16 tokens each."""
    sys.path.insert(0, str(FIXTURES))
    from parity_inputs import draw
    from PIL import Image

    content = []
    for number in range(num_images):
        name = f"media/grpo_{number}.png"
        Image.fromarray(draw(number + 1, 112, 112)).save(folder / name)
        content.append({"type": "image", "image": name})
    content.append({"type": "text", "text": " ".join(["Which instrument is in the images?"] * num_words)})
    messages = [
        {"role": "user", "content": content},
        {"role": "assistant", "content": [{"type": "text", "text": "The grasper."}]},
    ]
    path = folder / f"grpo_{num_images}_{num_words}.jsonl"
    path.write_text(json.dumps({"messages": messages}) + "\n", encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=ROOT / "target" / "release" / "medgrpo")
    parser.add_argument("--trl-python", type=Path, default=Path(sys.executable), help="interpreter that has TRL")
    parser.add_argument("--inputs", type=Path, help="folder for the checkpoint; made where absent")
    parser.add_argument("--checkpoint", default="", help='sizes for a new one: "--hidden 512 --layers 8"')
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3, help="timed steps of each side in a round")
    parser.add_argument("--prompts", type=int, default=2, help="prompts of a step")
    parser.add_argument("--generations", type=int, nargs="+", default=[8], help="sizes of a group, G")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--questions", type=int, nargs="+", default=[22], help="how often the question is repeated: sets P")
    parser.add_argument("--max-new-tokens", type=int, default=64, help="R")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--devices", nargs="+", default=["cpu"], help="of medgrpo; all take their turn in a round")
    parser.add_argument("--json", type=Path, help="also write all figures here")
    args = parser.parse_args()
    if not args.binary.exists():
        parser.error(f"{args.binary} is not there: cargo build --release -p medgrpo")
    rows = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.inputs or Path(temporary)
        if not (folder / "model").exists():
            make_inputs(folder, args.checkpoint.split())
        for number in range(args.rounds):
            for questions in args.questions:
                data = make_record(folder, args.images, questions)
                for generations in args.generations:
                    print(f"round {number + 1} of {args.rounds}: G {generations}, {questions} questions", file=sys.stderr)
                    sizes = {
                        "model": folder / "model", "data": data, "batch_size": args.prompts, "num_generations": generations,
                        "max_new_tokens": args.max_new_tokens, "threads": args.threads, "repetitions": args.repetitions,
                    }
                    options = [word for key, value in sizes.items() for word in (f"--{key.replace('_', '-')}", value)]
                    bench = [args.binary, "bench", "--what", "grpo", "--json", *options, "--device"]
                    sides = {device: json.loads(run([*bench, device])) for device in args.devices}
                    theirs = run([args.trl_python, FIXTURES / "trl_peer.py"], json.dumps(sizes, default=str))
                    theirs = json.loads(theirs.strip().splitlines()[-1])
                    if theirs["completion_length"] != args.max_new_tokens:
                        sys.exit(f"the peer's completions have {theirs['completion_length']} tokens: the work is not the same")
                    for device, ours in sides.items():
                        prompt = ours["tokens_per_step"] // args.prompts - generations * args.max_new_tokens
                        rows.setdefault((prompt, generations, device), []).append((ours, theirs))
    result = []
    print(f"{args.prompts} prompts a step, {args.threads} threads\n")
    print("| P | G | R | device | medgrpo, s (sample + update) | TRL, s | ratio | ratios of the rounds | memory, MiB: ours, theirs |")
    print("| --: | --: | --: | --- | --: | --: | --: | --- | --- |")
    for (prompt, generations, device), rounds in sorted(rows.items()):
        pairs = [(ours["median_sec"], statistics.median(theirs["seconds"])) for ours, theirs in rounds]
        ours, theirs = (statistics.median(side) for side in zip(*pairs))
        ratios = [mine / peer for mine, peer in pairs]
        phases = {
            phase: statistics.median(side["phases_sec"][phase] for side, _ in rounds)
            for phase in ["time/collect", "time/update"]
        }
        memory = [max(side["peak_memory_bytes"] for side in sides) >> 20 for sides in zip(*rounds)]
        split = f"{phases['time/collect']:.2f} + {phases['time/update']:.2f}"
        each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(
            f"| {prompt} | {generations} | {args.max_new_tokens} | {device} | {ours:.2f} ({split}) | {theirs:.2f} "
            f"| **{statistics.median(ratios):.2f}** | {each} | {memory[0]}, {memory[1]} |"
        )
        result.append({
            "prompt_tokens": prompt, "num_generations": generations, "completion_tokens": args.max_new_tokens,
            "device": device,
            "ours_sec": ours, "theirs_sec": theirs, "ratios": ratios, "phases_sec": phases, "peak_memory_mib": memory,
        })
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
