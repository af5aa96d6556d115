"""The pages before the token: whatever they are given to say is text, and where they go on to is here."""

from html.parser import HTMLParser
from urllib.parse import urlsplit

from hypothesis import example, given
from hypothesis import strategies as st

from hpscan.dashboards.login import arrival_page, local, login_page, logout_page, waiting_page

texts = st.text(st.characters(exclude_categories=["Cs"])) | st.text("<>\"'&;/ aé=")


def tags_of(answer):
    """Tags with their attributes, and all text, as a browser finds them."""
    tags, words = [], []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))
    parser.handle_data = words.append
    parser.feed(answer.body.decode())
    parser.close()
    return tags, "".join(words)


PLAIN = [tag for tag, _ in tags_of(login_page("/", "no"))[0]]


@given(texts, texts.filter(str.strip))
@example('/"><script>alert(1)</script>', "</p><script>alert(1)</script>")
def test_what_a_login_goes_on_to_and_complains_of_is_text(onward, wrong):
    tags, words = tags_of(login_page(onward, wrong, 401))
    assert [tag for tag, _ in tags] == PLAIN
    (hidden,) = (own for tag, own in tags if tag == "input" and own["type"] == "hidden")
    assert (hidden["name"], hidden["value"]) == ("next", onward)
    assert wrong in words


def test_a_wrong_token_is_told_to_screen_readers_and_by_the_status():
    answer = login_page("/", "That is not the token.", 401)
    tags, _ = tags_of(answer)
    (told,) = (own for _, own in tags if own.get("role") == "alert")
    (field,) = (own for tag, own in tags if tag == "input" and own["type"] == "password")
    assert answer.status_code == 401
    assert field["aria-describedby"] == told["id"]
    assert not any("role" in own for _, own in tags_of(login_page("/"))[0])


def test_signing_out_takes_a_button_and_no_token():
    tags, _ = tags_of(logout_page())
    assert [own for tag, own in tags if tag == "form"] == [{"method": "post", "action": "/logout"}]
    assert not any(tag == "input" for tag, _ in tags)


@given(texts)
def test_an_arrival_goes_to_its_path_and_nowhere_else(rest):
    path = "/" + rest
    tags, _ = tags_of(arrival_page(path))
    assert [own["content"] for tag, own in tags if own.get("http-equiv") == "refresh"] == [f"0;url={path}"]
    assert [own["href"] for tag, own in tags if tag == "a"] == [path]
    assert not any(tag in {"script", "form"} for tag, _ in tags)


@given(st.text("/\\:@.?#%&= \t\n\r\x00aé") | st.text())
@example("/\t/evil.example")
@example("/\\evil.example")
@example("//evil.example")
def test_what_is_gone_on_to_is_a_path_of_this_site(path):
    onward = local(path)
    assert onward in {path, "/"}
    browser = onward.strip("\x00 ").translate(dict.fromkeys(map(ord, "\t\n\r"))).replace("\\", "/")  # as URLs are read
    assert browser.startswith("/")
    assert not browser.startswith("//")
    assert local(onward) == onward


@given(st.lists(st.text("ab.-_~%é", min_size=1), max_size=3), st.text("ab=&%+?", max_size=9))
def test_a_page_of_this_site_is_gone_on_to_as_it_is(parts, query):
    path = f"/sweeps/{'/'.join(parts)}?{query}"
    assert local(path) == path
    assert urlsplit(path).netloc == ""


@given(texts.filter(str.strip))
def test_a_page_that_waits_asks_for_itself_again(about):
    answer = waiting_page(about, 7)
    tags, words = tags_of(answer)
    assert (answer.status_code, answer.headers["retry-after"]) == (202, "7")
    assert [own["content"] for tag, own in tags if own.get("http-equiv") == "refresh"] == ["7"]
    assert about in words
    assert not any(tag in {"script", "form", "a"} for tag, _ in tags)
