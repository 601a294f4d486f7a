"""What is drawn to be measured: prompts, each with its own seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hybridstitch.method.errors import HybridStitchError


@dataclass(frozen=True)
class PromptCase:
    """A prompt and the seed that it is always drawn with."""

    prompt: str
    seed: int


DEMO_CAPTIONS = (  # held out: the demo pair was never trained on them
    "a small striped yellow circle right of a large dotted black star on a grey background",
    "a large dotted purple square above a small striped blue star on a forest background",
    "a small striped red star right of a small striped purple ring on a forest background",
    "a small checkered purple square on a sky background",
    "a large checkered red triangle right of a small striped green square on a maroon background",
    "a large checkered yellow ring on a forest background",
    "a small dotted white ring below a large checkered red triangle on a sky background",
    "a small dotted red circle on a navy background",
)
DEMO_CASES = tuple(PromptCase(caption, seed) for seed, caption in enumerate(DEMO_CAPTIONS))


def cases_from_file(path: Path) -> list[PromptCase]:
    """One prompt a line; empty lines and lines that begin with # are skipped. A prompt's seed is its line's number.

    Raises:
        HybridStitchError: the file cannot be read, is not UTF-8 text or holds no prompt.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise HybridStitchError(f"prompts file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise HybridStitchError(f"prompts file {path} is not UTF-8 text") from None
    numbered = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
    cases = [PromptCase(text, number) for number, text in numbered if text and not text.startswith("#")]
    if not cases:
        raise HybridStitchError(f"prompts file {path} holds no prompt")
    return cases
