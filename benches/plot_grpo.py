"""What a GRPO step costs against the size of a group and against the length of a prompt: a picture of measured steps.

    python benches/against_trl.py --generations 2 4 8 16 --json by_group.json
    python benches/against_trl.py --questions 8 22 44 88 --json by_prompt.json
    python benches/plot_grpo.py by_group.json by_prompt.json --out docs/images/grpo_step.svg

Packages: matplotlib. A panel a file: over the one of the two sizes that varies in it.
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

SIZES = {"num_generations": "completions of a prompt, G", "prompt_tokens": "tokens of a prompt, P"}
NAMES = {"cpu": "medgrpo", "tch": "medgrpo, --device tch"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="what --json of against_trl.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    matplotlib.rcParams["svg.hashsalt"] = "medgrpo"
    figure, panels = pyplot.subplots(1, len(args.files), figsize=(4.6 * len(args.files), 3.6), squeeze=False)
    for panel, file in zip(panels[0], args.files):
        rows = json.loads(file.read_text(encoding="utf-8"))
        varying = [size for size in SIZES if len({row[size] for row in rows}) > 1]
        if len(varying) != 1:
            parser.error(f"{file} varies {' and '.join(varying) or 'no size'}; give one that varies one")
        size = varying[0]
        fixed = next(other for other in SIZES if other != size)
        by_device = {}
        for row in rows:
            by_device.setdefault(row["device"], []).append(row)
        for device, of_device in by_device.items():
            of_device.sort(key=lambda row: row[size])
            at = [row[size] for row in of_device]
            line = panel.plot(at, [row["ours_sec"] for row in of_device], marker="o", label=NAMES.get(device, device))
            update = [row["phases_sec"]["time/update"] for row in of_device]
            panel.plot(at, update, linestyle=":", color=line[0].get_color(), label="  of it the update")
        # TRL ran once for all devices of a size.
        theirs = {row[size]: row["theirs_sec"] for row in rows}
        panel.plot(sorted(theirs), [theirs[at] for at in sorted(theirs)], marker="s", color="gray", label="TRL")
        panel.set_xlabel(SIZES[size])
        panel.set_ylabel("seconds a step")
        panel.set_ylim(bottom=0)
        panel.set_xlim(left=0)
        name = {"num_generations": "G", "prompt_tokens": "P"}[fixed]
        panel.set_title(f"{name} = {rows[0][fixed]}, R = {rows[0]['completion_tokens']}", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(args.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
