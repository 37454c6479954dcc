"""Does the machine have what drawing needs, and if not, how does one get it?"""

from __future__ import annotations


def check_system() -> list[str]:
    """Look for the system libraries behind the default backend.

    Returns:
        One sentence per missing thing, each with the command that installs it; empty
        when everything is there.
    """
    try:
        # cairocffi loads libcairo when it is imported.
        import cairocffi  # noqa: F401
    except OSError:
        return [
            "The cairo library is missing: apt-get install libcairo2 (Debian, Ubuntu) or "
            "brew install cairo (macOS)."
        ]
    from mmzero_env.errors import EngineError
    from mmzero_env.rendering.font import font_face

    try:
        font_face(False, False)
    except EngineError as error:
        return [
            f"Text cannot be drawn ({error}): apt-get install libfreetype6 (Debian, Ubuntu) "
            "or brew install freetype (macOS)."
        ]
    return []
