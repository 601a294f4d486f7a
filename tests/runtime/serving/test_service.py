"""A service draws what the pipeline draws, for any number of threads at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

PROMPTS = [
    "a large striped red star left of a small plain white circle on a navy background",
    "a small dotted black circle below a large plain yellow square on a sand background",
    "a large plain green heart on a grey background",
    "a large dotted blue ring on a sand background",
]
QUICK = {"steps": 4, "large_steps": 2, "hybrid_steps": 1}
WANTED = [
    {"prompt": PROMPTS[0], "seed": 3, **QUICK},
    {"prompt": PROMPTS[1], "seed": 4, **QUICK, "negative_prompt": "a small red ring"},
    {"prompt": PROMPTS[2], "seed": 5, **QUICK, "size": "160x96"},
    {"prompt": PROMPTS[3], "seed": 6, **QUICK, "guidance": 1},
    {"prompt": PROMPTS[0], "seed": 7, **QUICK, "mask_ratio": 0.15, "score": "change"},
    {"prompt": PROMPTS[1], "seed": 8, "steps": 3, "method": "t-stitch"},
    {"prompt": PROMPTS[2], "seed": 9, "steps": 5, "adaptive": 0.2},
    {"prompt": PROMPTS[3], "seed": 10, **QUICK, "guidance": 7, "residual": "off"},
]


def drawn_by(pipe, wanted):
    """What the pipeline draws of the same request, alone."""
    return pipe.run([pipe.requests.resolve(**wanted)]).pictures[0]


def test_requests_of_all_kinds_from_many_threads_are_drawn_as_a_run_draws_each_alone(service, pipe):
    with ThreadPoolExecutor(len(WANTED)) as threads:
        pictures = list(threads.map(lambda wanted: service.generate(service.resolve(**wanted)), WANTED))
    for wanted, picture in zip(WANTED, pictures, strict=True):
        alone = drawn_by(pipe, wanted)
        assert picture.image.tobytes() == alone.image.tobytes(), wanted
        assert (picture.prompt, picture.seed, picture.plan) == (alone.prompt, alone.seed, alone.plan)
