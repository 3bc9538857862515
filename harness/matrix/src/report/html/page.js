// Filters the matrix and opens cells. `make` creates every element, so the text of a cell is never parsed as HTML.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const read = (id) => JSON.parse(byId(id).textContent);
  const main = document.querySelector("main");

  // Creates an element with these attributes and children. Strings become text; null and false are left out.
  const make = (tag, attributes, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== false && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children.flat(Infinity).filter((child) => child !== null && child !== false && child !== undefined));
    return element;
  };

  // The filter.
  const filter = byId("filter");
  const found = byId("found");
  const severities = [...document.querySelectorAll(".count")];
  let index = null;
  let buttons = null;

  const places = () => {
    buttons ??= [...byId("matrix").querySelectorAll(".cell")].map((button) => ({
      button, place: Number(button.dataset.cell), severity: button.classList[1], row: button.closest("tr"),
      scenario: button.closest(".scenario"), document: button.closest(".document"),
    }));
    return buttons;
  };

  // The word of a verdict only matches that verdict: "fail" does not match xfail.
  const verdicts = new Set(["pass", "fail", "xfail", "xpass", "flaky", "skip", "error"]);
  const matches = (place, words) => words.every((word) =>
    verdicts.has(word) ? index[place].startsWith(`${word} `) : index[place].includes(word));

  const apply = () => {
    index ??= read("index");
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = new Set(severities.filter((severity) => severity.getAttribute("aria-pressed") === "true").map((severity) => severity.dataset.severity));
    const parts = new Map();
    let number = 0;
    for (const cell of places()) {
      const shown = wanted.has(cell.severity) && matches(cell.place, words);
      number += shown;
      cell.button.hidden = !shown;
      for (const part of [cell.row, cell.scenario, cell.document]) parts.set(part, parts.get(part) || shown);
    }
    for (const [part, shown] of parts) part.hidden = !shown;
    for (const link of document.querySelectorAll(".documents a")) {
      link.hidden = Boolean(byId(link.getAttribute("href").slice(1))?.hidden);
    }
    for (const article of document.querySelectorAll(".trouble article")) {
      const cells = article.dataset.cells.split(" ");
      article.hidden = !wanted.has(article.className) || !cells.some((place) => matches(place, words));
    }
    const all = places().length;
    found.textContent = number === all ? `${all} cells` : `${number} of ${all} cells`;
  };

  let waiting = 0;
  filter.addEventListener("input", () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(apply);
  });
  for (const severity of severities) {
    severity.addEventListener("click", () => {
      severity.setAttribute("aria-pressed", String(severity.getAttribute("aria-pressed") !== "true"));
      apply();
    });
  }

  // The open cell.
  const dialog = byId("cell");
  let open = null;

  const seconds = (number) => {
    if (number >= 100) return `${Math.round(number)} s`;
    return number >= 0.1 ? `${number.toFixed(1)} s` : `${Math.round(number * 1000)} ms`;
  };
  const section = (title, ...children) => [make("h3", {}, title), ...children];
  const pairs = (list) => make("dl", { class: "said" }, list.filter(Boolean).map(([name, value, strong]) =>
    [make("dt", {}, name), make("dd", { class: strong && "strong" }, value)]));

  // Prose, with code between backticks.
  const prose = (text) => {
    const parts = text.split("`");
    return parts.length % 2 ? parts.map((part, place) => place % 2 ? make("code", {}, part) : part) : [text];
  };

  const copier = (text) => {
    const button = make("button", { type: "button", class: "plain" }, "Copy");
    button.addEventListener("click", async () => {
      const area = make("textarea", {}, text);
      dialog.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      button.textContent = done ? "Copied" : "Copy failed";
      button.focus();
    });
    return button;
  };

  const said = (cell) => {
    const works = "works, with evidence for every level";
    const stopped = cell.stage ? `stopped at ${cell.stage}` + (cell.level ? ` (${cell.level})` : "") : null;
    const observed = cell.verdict === "skip" ? `skipped: ${cell.symptom}`
      : [stopped, cell.symptom].filter(Boolean).join(": ") || works;
    return pairs([
      ["observed", observed, true],
      ["documented", cell.documented],
      cell.known && ["known", cell.known],
      cell.verdict === "error" && ["at fault", "the harness or its machine; this says nothing about the document"],
      cell.cpu_model && ["CPU model", cell.cpu_model],
      ["tier", cell.tier],
      cell.metal && ["metal", cell.metal],
      cell.attempts && ["attempts", cell.attempts],
    ]);
  };

  const levels = (cell) => {
    if (!cell.levels.length) return [];
    const row = (name, value) => {
      const values = cell.levels.map(value);
      return values.some(Boolean) && make("tr", {}, make("th", { scope: "row" }, name), values.map((text) => make("td", {}, text || "–")));
    };
    const head = cell.levels.map((level) => make("th", { scope: "col", class: level.level === cell.level && "stopped" }, level.level));
    const rows = [
      row("document", (level) => level.required),
      // The reason for another system is shown once.
      row("ran", (level, place) => [level.ran,
        level.why && level.why !== cell.levels[place - 1]?.why ? make("small", {}, ` ${level.why}`) : ""]),
      row("reported system", (level) => level.system),
      row("disk", (level) => level.disk),
      row("UEFI", (level) => level.uefi),
      row("kernel", (level) => level.kernel),
      row("QEMU", (level) => level.qemu),
      row("machine", (level) => level.machine),
      row("CPU", (level) => level.cpu),
      row("nested", (level) => level.nested),
      row("hardware", (level) => level.hardware),
      row("tried to reach", (level) => level.reached),
      row("missing flags", (level) => level.missing.join(" ")),
      row("image", (level) => level.image),
    ];
    const table = make("table", { class: "levels" }, make("thead", {}, make("tr", {}, make("th", {}), head)), make("tbody", {}, rows));
    return section("Levels", make("div", { class: "wide" }, table));
  };

  const disks = (cell) => {
    const prepared = cell.levels.filter((level) => level.changes.length);
    if (!prepared.length) return [];
    return section("What preparation changed", prepared.map((level) => {
      const lines = [`SHA-256 of the medium: ${level.sha256}`, ...level.changes];
      return make("details", {}, make("summary", {}, `${level.level}: ${level.disk}`), make("pre", { tabindex: "0" }, lines.join("\n")));
    }));
  };

  const timeline = (cell) => {
    if (!cell.stages.length) return [];
    const end = Math.max(...cell.stages.map(([, , until]) => until), 0.001);
    const rows = cell.stages.map(([stage, from, until]) => {
      const bar = make("span", { class: /^l\d/.test(stage) && stage.slice(0, 2) });
      bar.style.left = `${(from / end) * 100}%`;
      bar.style.width = `${(Math.max(until - from, 0) / end) * 100}%`;
      const stop = stage === cell.stage ? " stop" : "";
      return [make("span", { class: `name-of${stop}` }, stage + (stop && " ■")), make("span", { class: "track" }, bar),
        make("span", { class: `secs${stop}` }, seconds(until - from))];
    });
    const from = cell.restored ? `; restored from a snapshot of ${cell.restored[0]} (saved ${cell.restored[1]})` : "";
    return section(`Timeline: ${seconds(end)}${from}`, make("div", { class: "time" }, rows));
  };

  const consoles = (cell) => {
    const printed = cell.levels.filter((level) => level.console.length);
    if (!printed.length) return [];
    // If the level that stopped printed nothing, for example because its QEMU did not start, the next outer level is shown.
    const inner = [...printed].reverse();
    const shown = inner.find((level) => cell.level && level.level <= cell.level) || inner[0];
    return section("Last console lines", inner.map((level) => {
      const summary = make("summary", {}, `${level.level} (${level.console.length} lines)`);
      return make("details", { open: level === shown && "" }, summary, make("pre", { tabindex: "0" }, level.console.join("\n")));
    }));
  };

  // Cases that did not pass, or passed though they are known to fail, are shown at once; the others on request.
  const cases = (step) => {
    if (!step.cases.length) return [];
    const list = (some) => make("ul", { class: "cases" }, some.map(([name, outcome, said, known]) =>
      make("li", {}, make("b", {}, outcome), ` ${name}`, said && `: ${said}`, known && ` (known to fail: ${known})`)));
    const isPlain = ([, outcome, , known]) => outcome === "pass" && !known;
    const plain = step.cases.filter(isPlain);
    const others = step.cases.filter((one) => !isPlain(one));
    return [others.length > 0 && list(others),
      plain.length > 0 && make("details", {}, make("summary", {}, `${plain.length} cases that passed`), list(plain))];
  };

  const steps = (cell) => cell.steps.length ? section("Steps of the scenario", cell.steps.map((step, place) => {
    const status = step.run === null ? "" : step.status === null ? ", ended by a signal" : `, status ${step.status}`;
    return [make("p", { class: "step" }, make("b", {}, `step-${place + 1} `), `${step.name} on ${step.on}${status}`),
      make("pre", { tabindex: "0" }, (step.run === null ? step.do : `$ ${step.run}`) + (step.output ? `\n${step.output}` : "")),
      step.figures.length > 0 && make("ul", { class: "cases" }, step.figures.map((line) => make("li", {}, line))),
      cases(step)];
  })) : [];

  const hostChanges = (cell) => cell.host_changes.length ? section("What it changed on the host",
    make("pre", { tabindex: "0" }, cell.host_changes.join("\n"))) : [];

  const claims = (cell) => section("Claims", make("ul", { class: "claims" }, cell.claims.map((claim) =>
    make("li", {}, make("code", {}, claim.claim), claim.section && ` (${claim.section})`,
      claim.tier && [" ", make("span", { class: `tier ${claim.tier}` }, claim.tier)], claim.coverage && ` ${claim.coverage}`,
      claim.text && [": ", prose(claim.text)],
      claim.against.map(([other, about]) => make("p", { class: "against-it" }, "≠ ", make("code", {}, other), ": ", prose(about)))))));

  const again = (cell) => section("Run it again",
    make("div", { class: "again" }, make("pre", {}, cell.again), copier(cell.again)),
    cell.reproducer && [make("p", { class: "about" },
      // A script can't boot a level from a disk.
      cell.levels.some((level) => level.disk) ? "what was booted (it can't be run):" : "without nestmatrix:"),
      make("div", { class: "again" }, make("pre", {}, cell.reproducer), copier(cell.reproducer))]);

  const origin = (cell) => section("Source", pairs([
    ["run", make("code", {}, cell.run)],
    cell.machine && ["machine", cell.machine],
    cell.folder && ["files", make("code", {}, cell.folder)],
    ...cell.others.map(([verdict, run, stage, symptom]) =>
      [`also ${verdict}`, [make("code", {}, run), [stage, symptom].filter(Boolean).map((text) => `: ${text}`).join("")]]),
  ]));

  const evidence = (cell) => cell.evidence.length ? section("Evidence", pairs(cell.evidence)) : [];

  // The cells that the filter shows, in order.
  const visible = () => places().filter((cell) => !cell.button.hidden).map((cell) => cell.place);

  const show = (place) => {
    const cell = read(`c${place}`);
    open = place;
    const to = (step) => {
      const list = visible();
      const at = list.indexOf(open);
      const next = list[(at < 0 ? 0 : at + step + list.length) % list.length];
      if (next !== undefined) show(next);
    };
    const button = (text, label, action) => {
      const element = make("button", { type: "button", class: "plain", "aria-label": label, title: label }, text);
      element.addEventListener("click", action);
      return element;
    };
    const bar = make("div", { class: "cell-bar" },
      make("span", { class: `word ${cell.severity}` }, cell.verdict, cell.note && ` (${cell.note})`),
      cell.seconds !== null && make("span", { class: "about" }, seconds(cell.seconds)),
      make("span", { class: "space" }),
      button("←", "Previous cell (arrow left)", () => to(-1)),
      button("→", "Next cell (arrow right)", () => to(1)),
      button("Close", "Close (Escape)", () => dialog.close()));
    const head = make("div", { class: `cell-head ${cell.severity}` }, bar, make("h2", { id: "cell-name" }, cell.cell),
      cell.title && make("p", { class: "about" }, cell.title));
    // If the stack stopped, the consoles come first.
    const parts = cell.stage ? [consoles, levels, timeline, steps, disks, hostChanges] : [levels, timeline, steps, hostChanges, consoles, disks];
    const body = make("div", { class: "cell-body", tabindex: "0" }, said(cell), parts.map((part) => part(cell)),
      again(cell), evidence(cell), claims(cell), origin(cell));
    dialog.replaceChildren(head, body);
    dialog.onkeydown = (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey || event.target.tagName === "PRE") return;
      if (event.key === "ArrowLeft") to(-1);
      else if (event.key === "ArrowRight") to(1);
    };
    if (!dialog.open) dialog.showModal();
    body.focus();
    for (const console of body.querySelectorAll("details[open] pre")) console.scrollTop = console.scrollHeight;
    history.replaceState(null, "", `#cell=${encodeURIComponent(cell.cell)}`);
  };

  main.addEventListener("click", (event) => {
    const button = event.target.closest("[data-cell]");
    if (button) show(Number(button.dataset.cell));
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("close", () => {
    history.replaceState(null, "", location.pathname + location.search);
    // Focus the cell that was shown last, not the one that was opened first.
    const button = places().find((cell) => cell.place === open)?.button;
    if (button && !button.hidden) button.focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !dialog.open && event.target.tagName !== "INPUT") {
      event.preventDefault();
      filter.focus();
    } else if (event.key === "Escape" && event.target === filter && filter.value) {
      filter.value = "";
      apply();
    }
  });

  // A link to a cell.
  const linked = () => {
    const cell = location.hash && places().find((cell) => `#cell=${encodeURIComponent(cell.button.title)}` === location.hash);
    if (cell) show(cell.place);
  };
  window.addEventListener("hashchange", linked);
  linked();
})();
