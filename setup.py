"""Builds the extension modules; everything else stands in pyproject.toml."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

NATIVE = "src/qwenvl_prep/_native"

# The size rule and the resampler promise other programs' results to the bit, so the
# compiler may neither fuse a multiplication with an addition nor reorder.  No
# -march: one wheel has to run on every machine of its architecture; files for one
# instruction set say so themselves, function by function.
FLAGS = ["-O3", "-g0", "-std=c11", "-ffp-contract=off", "-Wall", "-Wextra"]

# QVP_SANITIZE=address,undefined: that build's extra flags; tests/sanitize.sh sets it.
SANITIZE = [f"-fsanitize={names}"] if (names := os.getenv("QVP_SANITIZE")) else []
if SANITIZE:
    FLAGS += [*SANITIZE, "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
    # Python's own flags hold -fwrapv, under which no overflow would be reported.
    FLAGS += ["-fno-wrapv", "-O1", "-g"]

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,  # every length is compared beside its pointer
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "freethreading_compatible": True,
}


def extension(name: str, *c_files: str) -> Extension:
    """Describe one module: its .pyx and the C files beside it."""
    return Extension(
        f"qwenvl_prep._native.{name}",
        [f"{NATIVE}/{name}.pyx", *(f"{NATIVE}/{file}" for file in c_files)],
        depends=[str(header) for header in sorted(Path(NATIVE).glob("*.h"))],
        include_dirs=[NATIVE],
        extra_compile_args=FLAGS,
        extra_link_args=SANITIZE,
    )


setup(
    ext_modules=cythonize(
        [
            extension(
                "geometry",
                "many_sizes_scalar.c",
                "many_sizes_avx2.c",
                "many_sizes_avx512.c",
                "many_sizes_neon.c",
                "many_sizes_dispatch.c",
            ),
            extension("caps"),
            extension("flatten"),
            extension("headers"),
            extension("scan"),
            extension("content"),
            extension("shaper", "shape.c"),
            extension(
                "resample",
                "coefficients.c",
                "convolve_scalar.c",
                "convolve_avx2.c",
                "convolve_avx512vnni.c",
                "convolve_neon.c",
                "dispatch.c",
                "stream.c",
            ),
        ],
        compiler_directives=DIRECTIVES,
        build_dir="build/cython",
    )
)
