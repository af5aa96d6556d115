"""A real browser, without a window."""

import shutil
from importlib.resources import files

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By

from tests.processes import wait_for

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
AXE = files("axe_core_python") / "axe.min.js"


class Browser:
    """A headless Chromium, and what a user does with it."""

    def __init__(self, width=1400, height=1000):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            f"--window-size={width},{height}",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))

    def open(self, url):
        self.driver.get(url)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector, *, timeout=30):
        """The element, once it is there and in sight."""
        return wait_for(
            lambda: next((each for each in self.all(selector) if each.is_displayed()), None),
            timeout=timeout, what=selector,
        )  # fmt: skip

    def text(self, selector="body"):
        try:
            return self.one(selector).text
        except StaleElementReferenceException:  # the page was drawn anew between finding and reading
            return self.one(selector).text

    def until(self, words, selector="body", *, timeout=60):
        wait_for(lambda: words in self.text(selector), timeout=timeout, what=f"{words!r} in {selector}")

    def click(self, selector):
        element = self.one(selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def script(self, code, *arguments):
        return self.driver.execute_script(code, *arguments)

    def write(self, selector, text):
        """Put a text into a field at once, as pasting does."""
        self.script(
            """Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value').set.call(arguments[0], arguments[1]);
            arguments[0].dispatchEvent(new Event('input', {bubbles: true}));""",
            self.one(selector),
            text,
        )

    def complaints(self):
        """What the console says of mistakes."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}]

    def violations(self):
        """What axe finds that keeps people out, serious or worse."""
        self.script(AXE.read_text())
        found = self.driver.execute_async_script(
            # Dash's own list boxes have an input that is hidden and takes the focus for them
            "axe.run({exclude: [['.dash-dropdown-focus-target']]}, {resultTypes: ['violations']})"
            ".then(arguments[arguments.length - 1])"
        )
        return [
            (each["id"], [node["html"][:120] for node in each["nodes"][:3]])
            for each in found["violations"]
            if each["impact"] in {"serious", "critical"}
        ]

    def painted(self):
        """How many maps have a picture."""
        return self.script("return document.querySelectorAll('#maps .hm image').length")

    def map(self, number):
        return self.all("#maps .nsewdrag")[number]
