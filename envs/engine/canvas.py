"""Canvases: one drawing routine per environment, shown as pixels (pygame) or as text."""

import numpy as np

BACKGROUND = (250, 250, 248)


class PixelCanvas:
    """Draws in units of cells on a pygame surface.

    Raises:
        ImportError: pygame isn't installed.
    """

    def __init__(self, pixels=640):
        try:
            import pygame
        except ImportError:
            raise ImportError("rendering needs pygame: pip install 'explore-gym[render]'") from None
        self.pygame, self.pixels = pygame, pixels

    def size(self, width, height, background=BACKGROUND):
        """Set the picture's size in cells; the first call of every drawing."""
        self.unit = max(8, round(self.pixels / max(width, height)))
        self.surface = self.pygame.Surface((round(width * self.unit), round(height * self.unit)))
        self.surface.fill(background)

    def rect(self, x, y, width, height, color, char=None):
        """A filled rectangle with its upper left corner at (x, y)."""
        left, top = round(x * self.unit), round(y * self.unit)
        box = self.pygame.Rect(left, top, round((x + width) * self.unit) - left, round((y + height) * self.unit) - top)
        self._blend(color, lambda surface, rgb: self.pygame.draw.rect(surface, rgb, box))

    def circle(self, x, y, radius, color, char=None):
        """A filled circle around (x, y)."""
        centre = x * self.unit, y * self.unit
        self._blend(color, lambda surface, rgb: self.pygame.draw.circle(surface, rgb, centre, radius * self.unit))

    def polygon(self, points, color, char=None):
        """A filled polygon."""
        corners = [(x * self.unit, y * self.unit) for x, y in points]
        self._blend(color, lambda surface, rgb: self.pygame.draw.polygon(surface, rgb, corners))

    def line(self, x0, y0, x1, y1, color, width=0.05, char=None):
        """A line of the given width."""
        ends, thick = ((x0 * self.unit, y0 * self.unit), (x1 * self.unit, y1 * self.unit)), max(1, round(width * self.unit))
        self._blend(color, lambda surface, rgb: self.pygame.draw.line(surface, rgb, *ends, thick))

    def text(self, x, y, string, color=(30, 30, 30), size=0.6):
        """A line of text, `size` cells high, with its upper left corner at (x, y)."""
        self.pygame.font.init()
        font = self.pygame.font.Font(None, max(10, round(size * self.unit * 1.4)))
        self.surface.blit(font.render(string, True, color), (round(x * self.unit), round(y * self.unit)))

    def result(self):
        """The picture, uint8 (height, width, 3)."""
        return np.ascontiguousarray(self.pygame.surfarray.array3d(self.surface).swapaxes(0, 1))

    def _blend(self, color, draw):
        if len(color) == 3:
            draw(self.surface, color)
            return
        layer = self.pygame.Surface(self.surface.get_size(), self.pygame.SRCALPHA)
        draw(layer, color)
        self.surface.blit(layer, (0, 0))


class TextCanvas:
    """The same drawing with one character per cell; what has no `char` isn't shown."""

    def size(self, width, height, background=BACKGROUND):
        self.cells = np.full((int(np.ceil(height)), int(np.ceil(width))), " ", "<U1")

    def rect(self, x, y, width, height, color, char=None):
        if char is not None:
            rows, columns = slice(int(y), max(int(y) + 1, round(y + height))), slice(int(x), max(int(x) + 1, round(x + width)))
            self.cells[rows, columns] = char

    def circle(self, x, y, radius, color, char=None):
        self._put(x, y, char)

    def polygon(self, points, color, char=None):
        self._put(*np.mean(points, 0), char)

    def line(self, x0, y0, x1, y1, color, width=0.05, char=None):
        for fraction in np.linspace(0.0, 1.0, int(2 * max(abs(x1 - x0), abs(y1 - y0))) + 2):
            self._put(x0 + fraction * (x1 - x0), y0 + fraction * (y1 - y0), char)

    def text(self, x, y, string, color=None, size=None):
        for offset, char in enumerate(string):
            self._put(x + offset, y, char)

    def result(self):
        """The text, one line per row of cells."""
        return "\n".join("".join(row).rstrip() for row in self.cells)

    def _put(self, x, y, char):
        row, column = int(np.floor(y)), int(np.floor(x))
        if char is not None and 0 <= row < self.cells.shape[0] and 0 <= column < self.cells.shape[1]:
            self.cells[row, column] = char
