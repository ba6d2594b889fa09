"""Class folders of small PNG images, for tests of the command line."""

from PIL import Image


def write_folder(root, sizes=((16, 16),) * 4, classes=("a", "b"), mode="RGB"):
    """Writes root/{train,test}/<class>/<number>.png, one image of every size, and gives root back."""
    for split in ("train", "test"):
        for name in classes:
            (root / split / name).mkdir(parents=True, exist_ok=True)
            for number, size in enumerate(sizes):
                Image.new(mode, size, (number * 10,) * 3).save(root / split / name / f"{number}.png")
    return root
