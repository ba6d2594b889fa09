"""The catalogue of networks: `python -m modules` lists them, `python -m modules resnet110` shows the blocks of one.

`python -m modules resnet110 --keys` lists the names that a file of its weights must have.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys


def main() -> int:
    """Prints the catalogue or one network; returns the exit code, 2 for an unknown name."""
    parser = argparse.ArgumentParser(
        prog="python -m modules",
        description="Every registered network: paper, parameters, multiply-adds per sample (convolutions and linear "
        "layers), published input (channels x height x width), number of blocks and default recipe.",
        epilog="Build one in Python with modules.build(NAME, num_classes, in_channels, **arguments).",
    )
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="show the blocks of this network, with shapes and costs"
    )
    parser.add_argument("--keys", action="store_true", help="names and shapes that weights for NAME must have")
    parser.add_argument("--json", action="store_true", help="plain data instead of a table")
    options = parser.parse_args()
    if options.keys and not options.name:
        parser.error("--keys needs the NAME of a network")
    gc.disable()  # looks again and again through half a million objects of which none is garbage
    from modules import listing

    try:
        look = listing.keys if options.keys else listing.blocks
        rows = look(options.name) if options.name else listing.networks()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(rows, indent=1) if options.json else listing.table(rows))
    if options.name and not options.json and not options.keys:
        from modules.catalogue import ARCHITECTURES, recipe_for

        totals = [sum(int(str(row[key])) for row in rows) for key in ("parameters", "multiply_adds")]
        print(f"\n{options.name}: {totals[0]:,} parameters, {totals[1]:,} multiply-adds")
        print(f"paper: {ARCHITECTURES[options.name].paper}")
        recipe = recipe_for(options.name)
        print(f"recipe: {listing.in_words(recipe)}\n        {recipe.source}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
