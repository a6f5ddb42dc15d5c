"""A data source of its own: images and one CSV file with a line per box, ``file,x1,y1,x2,y2,class``."""

import csv
import hashlib

import densedet
from densedet.core.errors import DataError
from densedet.core.sources import AnnotationTable, TableBuilder, TableSource, existing, image_size


@densedet.register("source", "csv_boxes")
class CsvBoxes(TableSource):
    """Images and a CSV file with the columns file, x1, y1, x2, y2, class.

    The numbers are pixels of the image as it is displayed: turned as its EXIF orientation says. An image
    without objects has a line with its name alone.

    Args:
        root: (wired) the folder at which the paths start, data.root.
        boxes: the CSV file.
        images: the folder of the images; null: the folder of the CSV file.
        classes: names in label order.

    Raises:
        DataError: a file cannot be read, or a line is wrong, with its number.
    """

    def __init__(self, *, root: str, boxes: str, images: str | None = None, classes: tuple[str, ...]) -> None:
        self.file = existing(root, boxes, "boxes")
        self.files = (self.file,)
        self.names = tuple(classes)
        super().__init__(
            self.file.parent if images is None else existing(root, images, "images", folder=True)
        )

    def _read(self) -> AnnotationTable:
        """Read the file, at the first use. The builder checks and counts the boxes."""
        content = self.file.read_bytes()
        self._found_digest = hashlib.sha256(content + repr(self.names).encode()).hexdigest()
        builder = TableBuilder(str(self.file), self.faults)
        for label, name in enumerate(self.names):
            builder.add_class(label, name)
        numbers: dict[str, int] = {}
        reader = csv.reader(content.decode("utf-8-sig", "replace").splitlines())
        for name, *values in filter(None, reader):
            builder.origin = f"{self.file}:{reader.line_num}"
            if name not in numbers:
                numbers[name] = len(numbers)
                try:
                    # Not Pillow's size: that is the one before the image is turned.
                    width, height = image_size(self.images_folder / name)
                except DataError as error:
                    self.faults.entry("image", f"{builder.origin}: {error}")
                else:
                    builder.add_image(numbers[name], name, width, height)
            if values:
                self._add_box(builder, numbers[name], values)
        return builder.finish()

    def _add_box(self, builder: TableBuilder, image: int, values: list[str]) -> None:
        try:
            x1, y1, x2, y2 = map(float, values[:-1])
            label = self.names.index(values[-1])
        except ValueError:
            wanted = f"file,x1,y1,x2,y2,class with a class of {', '.join(self.names)}"
            self.faults.entry("unreadable", f"{builder.origin}: {','.join(values)!r} is not {wanted}")
        else:
            builder.add_box(image, label, (x1, y1, x2 - x1, y2 - y1))
