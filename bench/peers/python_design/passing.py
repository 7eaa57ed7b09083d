"""The stages of no-op models: frames go on as they came."""

from peers.python_design.frame import Frame, Result


class Pass:
    """Does nothing, as a no-op model does."""

    def work(self, frames: list[Frame]) -> list[Frame]:
        """Return the frames."""
        return frames


class PassDetect:
    """Takes the frame's array, and puts nothing out."""

    def work(self, frames: list[Frame]) -> list[Frame]:
        """Return the frames without their arrays."""
        return [frame._replace(arrays=()) for frame in frames] if frames[0].arrays else frames


class PassLast:
    """Ends a chain of no-op models."""

    def work(self, frames: list[Frame]) -> list[Result]:
        """Return empty results."""
        return [Result(frame.number, frame.slot, frame.source.raw[:2], [], []) for frame in frames]
