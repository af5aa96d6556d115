"""Pages that stand alone, before anybody is signed in or while a file is made: plain HTML, no script, nothing to load."""

from __future__ import annotations

from jinja2 import Environment
from starlette.responses import HTMLResponse

__all__ = ["arrival_page", "local", "login_page", "logout_page", "waiting_page"]

_STYLE = """
:root { color-scheme: light dark; --ground: #f6f7f9; --card: #fff; --ink: #16191d; --quiet: #5b6470; --line: #d5dae1;
  --accent: #2455c3; --on-accent: #fff; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ground: #111418; --card: #1a1f25; --ink: #e8ebef; --quiet: #9aa4b1;
  --line: #343c46; --accent: #8fb1ff; --on-accent: #0c1626; --bad: #ffb4ab; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.5rem; background: var(--ground);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
main { width: 100%; max-width: 24rem; padding: 2rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 14px; box-shadow: 0 8px 30px rgb(0 0 0 / 8%); }
h1 { margin: 0 0 .25rem; font-size: 1.35rem; letter-spacing: -.01em; }
p { margin: 0 0 1.25rem; color: var(--quiet); }
label { display: block; margin-bottom: .35rem; font-weight: 600; font-size: .9rem; }
input { width: 100%; padding: .65rem .75rem; font: inherit; color: inherit; background: var(--ground);
  border: 1px solid var(--line); border-radius: 8px; }
button { width: 100%; margin-top: 1rem; padding: .7rem; font: inherit; font-weight: 600; color: var(--on-accent);
  background: var(--accent); border: 0; border-radius: 8px; cursor: pointer; }
button:hover { filter: brightness(1.08); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.bad { color: var(--bad); font-weight: 600; }
a { color: var(--accent); }
"""

_PAGE = Environment(autoescape=True).from_string("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{% if onward %}<meta http-equiv="refresh" content="0;url={{ onward }}">{% endif %}
{% if again_s %}<meta http-equiv="refresh" content="{{ again_s }}">{% endif %}
<title>{{ title }} · hpscan</title>
<link rel="icon" href="data:,">
<style>{{ style }}</style>
</head>
<body>
<main>
<h1>{{ title }}</h1>
{% if onward %}<p><a href="{{ onward }}">Go on to hpscan</a></p>
{% else %}<p>{{ about }}</p>
{% if wrong %}<p class="bad" role="alert" id="wrong">{{ wrong }}</p>{% endif %}
{% if action %}<form method="post" action="{{ action }}">
{% if asks %}<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus
{%- if wrong %} aria-invalid="true" aria-describedby="wrong"{% endif %}>
<input type="hidden" name="next" value="{{ next }}">{% endif %}
<button type="submit">{{ button }}</button>
</form>{% endif %}{% endif %}
</main>
</body>
</html>
""")


def login_page(next_path: str, wrong: str = "", status: int = 200) -> HTMLResponse:
    """Asks for a token; ``wrong`` is what to say of the last one."""
    about = "This dashboard is shared with those who have its token. It was printed when the server started."
    page = _PAGE.render(
        title="Sign in", about=about, wrong=wrong, action="/login", asks=True, next=next_path, button="Sign in", style=_STYLE
    )  # fmt: skip
    return HTMLResponse(page, status)


def logout_page() -> HTMLResponse:
    """Asks whether to sign out: a link alone must not do it."""
    about = "You will need the token to come back."
    return HTMLResponse(_PAGE.render(title="Sign out", about=about, action="/logout", button="Sign out", style=_STYLE))


def arrival_page(path: str) -> HTMLResponse:
    """Goes to a path of this site by itself: a browser that came by a link from another site then shows its cookie."""
    return HTMLResponse(_PAGE.render(title="One moment", onward=path, style=_STYLE))


def waiting_page(about: str, again_s: int) -> HTMLResponse:
    """Asks for its own address again until what is made there is made, which a browser then shows or saves."""
    page = _PAGE.render(
        title="One moment", about=f"{about}; this page asks again by itself.", again_s=again_s, style=_STYLE
    )
    return HTMLResponse(page, 202, {"Retry-After": str(again_s)})


def local(path: str) -> str:
    """The path if it is one of this site, else the first page: what a login goes on to is not for others to choose."""
    others = path.startswith(("//", "/\\")) or "\\" in path or any(ord(letter) < 33 for letter in path)
    return path if path.startswith("/") and not others and not path.startswith(("/login", "/logout")) else "/"
