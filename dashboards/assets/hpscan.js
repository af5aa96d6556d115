/* What the pages do without asking the server. */
(() => {
  "use strict";
  const stored = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const system = matchMedia("(prefers-color-scheme: dark)");
  const show = (theme) => { document.documentElement.dataset.theme = theme; };
  show(stored() || (system.matches ? "dark" : "light"));
  system.addEventListener("change", (event) => { if (!stored()) show(event.matches ? "dark" : "light"); });
  addEventListener("storage", (event) => { if (event.key === "theme" && event.newValue) show(event.newValue); });  // chosen in another tab
  let shift = false;
  addEventListener("pointerdown", (event) => { shift = event.shiftKey; }, true);
  document.addEventListener("click", (event) => {
    if (!event.target.closest || !event.target.closest("#theme")) return;
    const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    show(theme);
    try { localStorage.setItem("theme", theme); } catch { /* private windows may have no storage */ }
  });

  /* Dash's sliders and radio buttons come without names, dropdowns with their value alone, and radio buttons as options of a list, which they are not */
  const named = () => {
    for (const field of document.querySelectorAll(".field")) {
      const told = field.querySelector(".name");
      if (!told) continue;  // of a server that started before its files were renewed
      const name = told.innerText.replace(/[▶❚]/g, "").trim();
      for (const control of field.querySelectorAll("[role=slider]")) control.setAttribute("aria-label", name);
      for (const button of field.querySelectorAll("button.dash-dropdown")) {
        told.id ||= `${button.id}-name`;
        const own = button.getAttribute("aria-labelledby") || "";
        if (!own.startsWith(told.id)) button.setAttribute("aria-labelledby", `${told.id} ${own}`);
      }
      for (const list of field.querySelectorAll(".segmented[role=listbox]")) {
        list.setAttribute("role", list.classList.contains("dash-radioitems") ? "radiogroup" : "group");
        list.setAttribute("aria-label", name);
        for (const option of list.querySelectorAll("[role=option]"))
          for (const attribute of ["role", "aria-selected"]) option.removeAttribute(attribute);
      }
      for (const clear of field.querySelectorAll(".dash-dropdown-clear:not([role])")) clear.setAttribute("role", "button");
    }
  };
  let naming = 0;
  const watch = () => new MutationObserver(() => { naming ||= requestAnimationFrame(() => { naming = 0; named(); }); })
    .observe(document.body, { childList: true, subtree: true });
  if (document.body) watch(); else addEventListener("DOMContentLoaded", watch);

  /* Dash says nothing of questions that are not answered: the page would stay as it is, whatever one does */
  const LOST_MS = 10000;
  let lostUntil = 0;
  const lost = (words, at) => {
    const notice = document.getElementById("lost");
    if (!notice) return;
    notice.replaceChildren(words);
    if (at) notice.append(" ", Object.assign(document.createElement("a"), { href: at, textContent: "Sign in" }));
    notice.hidden = !words;
  };
  const why = async (answer) => {
    try { return (await answer.clone().json()).detail || answer.statusText; } catch { return answer.statusText; }
  };
  const ask = window.fetch;
  window.fetch = async (asked, ...more) => {
    if (!String(asked.url || asked).includes("/_dash-update-component")) return ask(asked, ...more);
    let answer;
    try {
      answer = await ask(asked, ...more);
    } catch (error) {
      lost("The dashboard does not answer; this is what it said last.");
      throw error;
    }
    if (answer.status === 401) {
      lost("You are signed out.", location.href);
    } else if (!answer.ok) {
      lostUntil = Date.now() + LOST_MS;
      lost(`Something that was asked for did not come: ${await why(answer)}.`);
    } else if (Date.now() > lostUntil) {
      lost("");
    }
    return answer;
  };

  const none = () => window.dash_clientside.no_update;
  const typing = { cancel() {} };
  const place = (name, point) => ({ name, x: point.x, y: point.y });
  /* a selection that is over stays drawn on its map until the map is told */
  const unmark = (kept) => {
    for (const map of document.querySelectorAll("#maps .js-plotly-plot"))
      if (JSON.parse(map.closest(".dash-graph").id).name !== kept)
        window.Plotly.restyle(map, { selectedpoints: null });
  };
  const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    hpscan: {
      /* the address says what is shown; going back leaves the page, not the last choice */
      address(query) {
        if (typeof query === "string") history.replaceState(history.state, "", location.pathname + query);
        return none();
      },
      /* what could not be shown is not asked for any more; broken files, which are a list, are still broken */
      settled(view, said) {
        return typeof said === "string" ? true : none();
      },
      /* the address has all that was chosen */
      reload() {
        location.reload();
        return none();
      },
      /* of a grid that is too large to be sent whole, what is in sight is sent again in its own cells */
      sight(moved, sight) {
        if (!sight.large || !moved) return none();
        const ends = ["x", "y"].map((axis) => [0, 1].map((end) => moved[`${axis}axis.range[${end}]`]));
        if (ends.flat().every((end) => typeof end === "number")) return { large: true, window: ends };
        return Object.keys(moved).some((key) => key.endsWith(".autorange")) ? { large: true } : none();
      },
      play(ticks, at, last) {
        return at >= last ? 0 : at + 1;
      },
      playing(clicks, stopped) {
        return [!stopped, stopped ? "❚❚" : "▶"];
      },
      compare(names) {
        if (!names || same(names, new URLSearchParams(location.search).getAll("sweep"))) return none();
        location.assign(`/compare?${new URLSearchParams(names.map((name) => ["sweep", name]))}`);
        return none();
      },
      here(path) {
        const at = path.startsWith("/compare") ? 1 : path.startsWith("/launch") ? 2 : 0;
        let last = path.split("/").filter(Boolean).slice(0, 2).pop() || "sweeps";
        try { last = decodeURIComponent(last); } catch { /* as it stands there */ }
        document.title = `${last} · hpscan`;
        return [0, 1, 2].map((each) => (each === at ? "nav here" : "nav"));
      },
      /* what is typed goes to the server when the typing rests */
      typed(text) {
        typing.cancel();
        return new Promise((resolve) => {
          const timer = setTimeout(() => resolve(text), 350);
          typing.cancel = () => { clearTimeout(timer); resolve(none()); };
        });
      },
      /* a click picks a cell, with shift one more; a box picks what is in it */
      pick(clicks, selections, buttons, clear, picked) {
        const context = window.dash_clientside.callback_context;
        const asked = context.triggered.filter((each) => each.value !== null && each.value !== undefined);
        if (!asked.length) return none();
        const [id, property] = (() => {
          const at = asked[0].prop_id.lastIndexOf(".");
          return [asked[0].prop_id.slice(0, at), asked[0].prop_id.slice(at + 1)];
        })();
        if (id === "clear") {
          unmark();
          return { cells: [] };
        }
        const own = JSON.parse(id);
        if (own.type === "best") {
          unmark();
          return { cells: [{ name: own.name, cell: own.cell }] };
        }
        const selection = asked.find((each) => each.prop_id.endsWith(".selectedData"));
        if (selection && selection.value.range) {
          const cells = selection.value.points.map((point) => place(own.name, point));
          if (cells.length) unmark(own.name);
          return cells.length ? { cells } : none();
        }
        const click = asked.find((each) => each.prop_id.endsWith(".clickData"));
        if (!click || !click.value.points.length) return none();
        const cell = place(own.name, click.value.points[0]);
        if (!shift) unmark(own.name);
        const others = shift && picked ? picked.cells.filter((each) => !same(each, cell)) : [];
        return { cells: [...others, cell] };
      },
    },
  });
})();
