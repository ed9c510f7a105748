"use strict";
// The page of a trace. What it shows comes from other programs: it is only ever put in
// as text, never as HTML.
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  // Members of an entry, by place; those at the end may be missing.
  const [AT, KIND, FROM, TO, NAME, TEXT, DATA, ID, MS, BAD, CUT] = Array(11).keys();
  const { entries, lanes, kinds } = data;
  const ROW = 26;
  /// A longer time without anything, in microseconds, is folded.
  const GAP = 500_000;
  /// More rows are not printed.
  const PRINTED = 3000;

  /// An element with these properties and children; text stays text.
  function make(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name in element) element[name] = value;
      else element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  /// Microseconds since 1970.
  function micros(at) {
    const digits = /\.(\d+)Z$/.exec(at);
    const fraction = digits ? Number(digits[1].padEnd(6, "0").slice(0, 6)) : 0;
    return Date.parse(at.slice(0, 19) + "Z") * 1000 + fraction;
  }

  const times = Float64Array.from(entries, (entry) => micros(entry[AT]));
  const kindOf = (entry) => kinds[entry[KIND]];
  const isTo = (entry) => entry[TO] !== null && entry[TO] !== undefined && entry[TO] >= 0;

  /// What happened, in a few words.
  function label(entry) {
    const kind = kindOf(entry);
    const name = entry[NAME] || "";
    const text = entry[TEXT] || "";
    switch (kind) {
      case "request": case "notification": case "message": return name;
      case "answer": return `${name || "answer"}: ${entry[BAD] ? message(entry) : entry[CUT] ? "ok" : text || "ok"}`;
      case "hook": case "block": return `${kind} ${name}`;
      case "log": return `${name}: ${text}`;
      case "start": return `start ${name || text}`;
      case "connect": case "disconnect": case "ready": return kind;
      default: return text ? `${kind}: ${text}` : kind;
    }
  }

  function message(entry) {
    try {
      return JSON.parse(entry[DATA]).message || "error";
    } catch {
      return entry[TEXT] || "error";
    }
  }

  function duration(us) {
    if (us < 1000) return `${us.toFixed(0)} µs`;
    if (us < 1e6) return `${(us / 1e3).toFixed(1)} ms`;
    return us < 6e7 ? `${(us / 1e6).toFixed(2)} s` : `${(us / 6e7).toFixed(1)} min`;
  }

  // Requests and answers by what they have in common.
  const partners = new Map();
  entries.forEach((entry, n) => {
    if (!entry[ID]) return;
    if (!partners.has(entry[ID])) partners.set(entry[ID], []);
    partners.get(entry[ID]).push(n);
  });
  function partner(n) {
    const both = partners.get(entries[n][ID]) || [];
    const other = both.filter((m) => (kindOf(entries[m]) === "answer") !== (kindOf(entries[n]) === "answer"));
    return other.length ? other[0] : -1;
  }

  // Filters, and the rows that are left: the number of an entry, or less than 0 for a
  // gap, which is so many microseconds.
  const hiddenLanes = new Set();
  const hiddenKinds = new Set();
  let rows = [];
  let shownLanes = [];
  let place = new Map();
  let chosen = -1;
  let haystack = null;

  function search(text) {
    haystack ||= entries.map((e) => `${e[NAME] || ""}\n${e[TEXT] || ""}\n${e[DATA] || ""}`.toLowerCase());
    return (n) => haystack[n].includes(text);
  }

  function filter() {
    const text = $("text").value.toLowerCase();
    const topic = $("topic").value;
    const found = text ? search(text) : () => true;
    const onlyBad = $("bad").checked;
    rows = [];
    let shown = 0;
    let before = null;
    const involved = new Set();
    entries.forEach((entry, n) => {
      if (hiddenKinds.has(entry[KIND]) || hiddenLanes.has(entry[FROM])) return;
      if (isTo(entry) && hiddenLanes.has(entry[TO])) return;
      if ((onlyBad && !entry[BAD]) || (topic && !(entry[NAME] || "").startsWith(topic)) || !found(n)) return;
      if (before !== null && times[n] - before > GAP) rows.push(before - times[n]);
      before = times[n];
      rows.push(n);
      shown += 1;
      involved.add(entry[FROM]);
      if (isTo(entry)) involved.add(entry[TO]);
    });
    shownLanes = lanes.map((_, n) => n).filter((n) => involved.has(n));
    place = new Map();
    rows.forEach((n, at) => n >= 0 && place.set(n, at));
    $("count").textContent = shown === entries.length ? `${shown} entries` : `${shown} of ${entries.length} entries`;
    layOut();
    if (chosen >= 0 && place.has(chosen)) reveal(chosen);
    else choose(-1);
  }

  // The chart: only the rows that one sees are there.
  const chart = $("chart");
  const body = $("rows");
  let laneWidth = 100;
  let x = new Map();

  function layOut() {
    const room = chart.clientWidth - 432;
    laneWidth = Math.min(170, Math.max(76, Math.floor(room / Math.max(1, shownLanes.length))));
    x = new Map(shownLanes.map((lane, n) => [lane, n * laneWidth + laneWidth / 2]));
    const head = make("div", { className: "lanes", role: "columnheader" });
    for (const lane of shownLanes) {
      const [node, plugin] = lanes[lane].split("/");
      const names = plugin === undefined ? [shortLane(node)] : [make("small", {}, `${node} `), plugin];
      const cell = make("span", { className: "lane", title: lanes[lane] }, ...names);
      cell.style.width = `${laneWidth}px`;
      head.append(cell);
    }
    $("head").replaceChildren(
      make("div", { className: "time", role: "columnheader" }, "Time"),
      make("div", { className: "what", role: "columnheader" }, "What"),
      head,
    );
    body.style.height = `${rows.length * ROW}px`;
    chart.setAttribute("aria-rowcount", rows.length + 1);
    draw(true);
    drawTimeline();
  }

  /// A peer's id is long.
  const shortLane = (lane) => (/^[0-9a-f]{66}$/.test(lane) ? `${lane.slice(0, 8)}…` : lane);

  let drawn = [0, 0];
  function draw(all = false, print = false) {
    const extra = 10;
    const first = print ? 0 : Math.max(0, Math.floor(chart.scrollTop / ROW) - extra);
    const seen = print ? PRINTED : Math.ceil(chart.clientHeight / ROW) + 2 * extra;
    const last = Math.min(rows.length, first + seen);
    if (!all && drawn[0] === first && drawn[1] === last) return;
    drawn = [first, last];
    const some = document.createDocumentFragment();
    for (let at = first; at < last; at += 1) some.append(row(at));
    body.replaceChildren(some);
    const active = chosen >= 0 && $(`e${chosen}`);
    if (active) chart.setAttribute("aria-activedescendant", active.id);
    else chart.removeAttribute("aria-activedescendant");
  }

  function row(at) {
    const n = rows[at];
    const element = make("div", { role: "row", className: "row", "aria-rowindex": at + 2 });
    element.style.top = `${at * ROW}px`;
    const cell = (className, ...children) => make("div", { role: "gridcell", className }, ...children);
    const width = shownLanes.length * laneWidth;
    if (n < 0) {
      element.className = "row gap";
      const empty = cell("lanes");
      empty.style.width = `${width}px`;
      element.append(cell("time"), cell("what", `… ${duration(-n)} …`), empty);
      return element;
    }
    const entry = entries[n];
    const kind = kindOf(entry);
    const text = label(entry);
    element.id = `e${n}`;
    element.setAttribute("aria-selected", n === chosen);
    if (entry[BAD]) element.classList.add("bad");
    const what = cell("what", entry[BAD] ? `✗ ${text}` : text);
    what.title = text;
    const picture = cell("lanes");
    picture.style.width = `${width}px`;
    picture.style.backgroundSize = `${laneWidth}px 100%`;
    picture.style.backgroundPosition = `${laneWidth / 2}px 0`;
    const from = x.get(entry[FROM]);
    const to = isTo(entry) ? x.get(entry[TO]) : undefined;
    if (to === undefined || to === from) {
      const dot = make("span", { className: `dot ${kind}` });
      dot.style.left = `${from}px`;
      picture.append(dot);
      picture.setAttribute("aria-label", `at ${lanes[entry[FROM]]}`);
    } else {
      const arrow = make("span", { className: `arrow ${kind} ${to > from ? "right" : "left"}` });
      arrow.style.left = `${Math.min(from, to)}px`;
      arrow.style.width = `${Math.abs(to - from)}px`;
      arrow.append(make("span", {}, entry[NAME] || kind));
      picture.append(arrow);
      picture.setAttribute("aria-label", `${entry[NAME] || kind}, from ${lanes[entry[FROM]]} to ${lanes[entry[TO]]}`);
    }
    element.append(cell("time", entry[AT].slice(11, -1)), what, picture);
    return element;
  }

  function reveal(n) {
    const top = place.get(n) * ROW;
    const head = $("head").offsetHeight;
    if (top < chart.scrollTop) chart.scrollTop = top;
    else if (top + ROW + head > chart.scrollTop + chart.clientHeight) {
      chart.scrollTop = top + ROW + head - chart.clientHeight + 4;
    }
    draw(true);
  }

  function choose(n) {
    chosen = n;
    if (n >= 0 && !place.has(n)) clearFilters();
    if (n >= 0) reveal(n);
    else draw(true);
    showDetails();
  }

  /// The entry so many rows after (or before) the present one that is `wanted`.
  function move(by, wanted = () => true) {
    const step = Math.sign(by);
    let left = Math.abs(by);
    let at = place.has(chosen) ? place.get(chosen) : step > 0 ? -1 : rows.length;
    let found = -1;
    for (at += step; at >= 0 && at < rows.length && left > 0; at += step) {
      if (rows[at] >= 0 && wanted(entries[rows[at]])) {
        found = rows[at];
        left -= 1;
      }
    }
    if (found >= 0) choose(found);
  }

  // Details.
  const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null|[{}[\],:]/g;

  /// JSON laid out and coloured, each value as it was spelled.
  function highlighted(json) {
    const out = make("pre", { tabIndex: 0, role: "region", "aria-label": "JSON" });
    const tokens = json.match(TOKEN) || [];
    let depth = 0;
    const line = () => `\n${"  ".repeat(depth)}`;
    tokens.forEach((token, n) => {
      const next = tokens[n + 1];
      if (token === "{" || token === "[") {
        depth += 1;
        out.append(token, next === "}" || next === "]" ? "" : line());
      } else if (token === "}" || token === "]") {
        depth -= 1;
        const before = tokens[n - 1];
        out.append(before === "{" || before === "[" ? token : line() + token);
      } else if (token === ",") {
        out.append(",", line());
      } else if (token === ":") {
        out.append(": ");
      } else {
        const isText = token[0] === '"';
        const kind = isText ? (next === ":" ? "key" : "string") : /^[-\d]/.test(token) ? "number" : "literal";
        out.append(make("span", { className: kind }, token));
      }
    });
    return out;
  }

  function showDetails() {
    const panel = $("details");
    if (chosen < 0) {
      panel.replaceChildren(make("p", {}, "Choose a message: click it, or use the arrow keys."));
      return;
    }
    const entry = entries[chosen];
    const facts = make("dl");
    const fact = (name, value) => {
      if (value !== undefined && value !== null && value !== "") facts.append(make("dt", {}, name), make("dd", {}, String(value)));
    };
    fact("kind", kindOf(entry));
    fact("from", lanes[entry[FROM]]);
    fact("to", isTo(entry) ? lanes[entry[TO]] : "");
    fact("name", entry[NAME]);
    fact("time", entry[AT]);
    fact("after the start", duration(times[chosen] - times[0]));
    fact("took", entry[MS] === null || entry[MS] === undefined ? "" : `${entry[MS]} ms`);
    fact("id", entry[ID]);
    const other = partner(chosen);
    const buttons = make("div", { className: "buttons" });
    if (other >= 0) {
      const name = kindOf(entry) === "answer" ? "Its request" : "Its answer";
      buttons.append(make("button", { type: "button", id: "partner", onclick: () => choose(other) }, name));
    }
    buttons.append(make("button", { type: "button", id: "copy", onclick: copy }, "Copy"));
    const parts = [make("h2", {}, label(entry)), facts, buttons];
    if (entry[TEXT]) parts.push(make("pre", { tabIndex: 0, role: "region", "aria-label": "Text" }, entry[TEXT]));
    if (entry[CUT]) parts.push(make("p", {}, `Only the start is here, of ${entry[CUT]} bytes.`));
    if (entry[DATA]) parts.push(highlighted(entry[DATA]));
    panel.replaceChildren(...parts);
  }

  /// The message as it was sent, or the text.
  async function copy() {
    const entry = entries[chosen];
    if (!entry) return;
    const text = entry[DATA] || entry[TEXT] || label(entry);
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Where a file may not use the clipboard.
      const area = make("textarea", { value: text });
      document.body.append(area);
      area.select();
      done = document.execCommand("copy");
      area.remove();
    }
    if ($("copy")) $("copy").textContent = done ? "Copied" : "Cannot copy here";
  }

  // The timeline: how much happened when, with gaps folded.
  const timeline = $("timeline");
  let folded = [];

  function drawTimeline() {
    const width = Math.max(1, timeline.clientWidth);
    timeline.width = width;
    folded = new Float64Array(rows.length);
    let now = 0;
    let before = null;
    rows.forEach((n, at) => {
      if (n >= 0) {
        if (before !== null) now += Math.min(times[n] - before, GAP);
        before = times[n];
      }
      folded[at] = now;
    });
    const context = timeline.getContext("2d");
    const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
    // A canvas does not know light-dark().
    const probe = document.createElement("span");
    document.body.append(probe);
    const resolved = (name) => {
      probe.style.color = colour(name);
      return getComputedStyle(probe).color;
    };
    const [ink, bad] = [resolved("--accent"), resolved("--bad")];
    probe.remove();
    const counts = new Uint32Array(width);
    const wrong = new Uint8Array(width);
    rows.forEach((n, at) => {
      if (n < 0) return;
      const column = Math.min(width - 1, Math.floor((folded[at] / (now || 1)) * width));
      counts[column] += 1;
      if (entries[n][BAD]) wrong[column] = 1;
    });
    const most = counts.reduce((a, b) => Math.max(a, b), 1);
    context.clearRect(0, 0, width, 36);
    counts.forEach((count, column) => {
      if (!count) return;
      const height = 4 + Math.round((30 * Math.log1p(count)) / Math.log1p(most));
      context.fillStyle = wrong[column] ? bad : ink;
      context.fillRect(column, 36 - height, 1, height);
    });
  }

  timeline.addEventListener("click", (event) => {
    if (!rows.length) return;
    const wanted = (event.offsetX / timeline.clientWidth) * folded[rows.length - 1];
    let at = folded.findIndex((time) => time >= wanted);
    if (at < 0) at = rows.length - 1;
    while (at < rows.length - 1 && rows[at] < 0) at += 1;
    choose(rows[at]);
  });

  // The summary.
  function summary() {
    const parts = [];
    const titled = (title, open, ...children) =>
      make("details", { open }, make("summary", {}, make("strong", {}, title)), ...children);
    if (data.failure) parts.push(titled("What failed", true, make("pre", { className: "failure" }, data.failure)));
    if (data.steps.length) {
      const list = make("ol");
      for (const step of data.steps) {
        const first = step.at ? times.findIndex((time) => time >= micros(step.at)) : -1;
        const show = () => {
          choose(first);
          chart.focus();
        };
        const title = make("button", { type: "button", className: "step", disabled: first < 0, onclick: show }, step.title);
        const checks = make("ul", { className: "checks" });
        for (const line of step.recorded) checks.append(make("li", {}, "recorded: ", make("code", {}, line)));
        for (const check of step.checks) {
          const text = check.ok ? check.what : `${check.what}: ${check.seen || ""}`;
          checks.append(make("li", { className: check.ok ? "ok" : "wrong" }, text));
        }
        if (step.text) checks.append(make("li", {}, step.text));
        list.append(make("li", {}, make("span", { className: step.ok ? "ok" : "wrong" }, title), checks));
      }
      const held = data.steps.filter((step) => step.ok).length;
      parts.push(titled(`Steps: ${held} of ${data.steps.length} held`, true, list));
    }
    const facts = make("dl");
    for (const [name, value] of data.facts) facts.append(make("dt", {}, name), make("dd", {}, value));
    parts.push(titled("Versions and command lines", !data.steps.length && !data.failure, facts));
    if (data.notes.length) {
      const notes = make("ul");
      for (const note of data.notes) notes.append(make("li", {}, note));
      parts.push(titled("What is missing", false, notes));
    }
    $("summary").replaceChildren(...parts);
  }

  /// Check boxes for a set of hidden numbers.
  function choices(id, names, hidden) {
    const box = $(id).querySelector(".choices");
    const all = make("button", { type: "button" }, "All");
    const none = make("button", { type: "button" }, "None");
    const boxes = names.map((name, n) => {
      const input = make("input", { type: "checkbox", checked: true });
      input.addEventListener("change", () => {
        if (input.checked) hidden.delete(n);
        else hidden.add(n);
        filter();
      });
      return [input, make("label", {}, input, ` ${name}`)];
    });
    const set = (checked) => {
      boxes.forEach(([input], n) => {
        input.checked = checked;
        if (checked) hidden.delete(n);
        else hidden.add(n);
      });
      filter();
    };
    all.addEventListener("click", () => set(true));
    none.addEventListener("click", () => set(false));
    box.replaceChildren(all, " ", none, ...boxes.map(([, text]) => text));
    return () => set(true);
  }

  const resets = [choices("lanes", lanes, hiddenLanes), choices("kinds", kinds, hiddenKinds)];
  function clearFilters() {
    $("text").value = "";
    $("topic").value = "";
    $("bad").checked = false;
    resets.forEach((reset) => reset());
  }

  // Events.
  const page = () => Math.max(1, Math.floor(chart.clientHeight / ROW) - 2);
  const keys = {
    ArrowDown: () => move(1),
    ArrowUp: () => move(-1),
    PageDown: () => move(page()),
    PageUp: () => move(-page()),
    Home: () => move(-rows.length),
    End: () => move(rows.length),
    Enter: () => $("details").focus(),
    e: () => move(1, (entry) => entry[BAD]),
    E: () => move(-1, (entry) => entry[BAD]),
    p: () => chosen >= 0 && partner(chosen) >= 0 && choose(partner(chosen)),
    c: copy,
  };
  chart.addEventListener("keydown", (event) => {
    const act = keys[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLInputElement && event.target.type === "search";
    if (event.key === "/" && !typing) {
      event.preventDefault();
      $("text").focus();
    } else if (event.key === "Escape") {
      for (const id of ["lanes", "kinds"]) $(id).open = false;
      chart.focus();
    }
  });
  body.addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (row && row.id) choose(Number(row.id.slice(1)));
  });
  let asked = false;
  const soon = (act) => () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      act();
    });
  };
  chart.addEventListener("scroll", soon(() => draw()));
  window.addEventListener("resize", soon(layOut));
  for (const id of ["text", "topic"]) $(id).addEventListener("input", soon(filter));
  $("bad").addEventListener("change", filter);
  window.addEventListener("beforeprint", () => {
    body.style.height = `${Math.min(rows.length, PRINTED) * ROW}px`;
    draw(true, true);
    if (rows.length > PRINTED) body.append(make("p", {}, `… ${rows.length - PRINTED} more rows are not printed`));
  });
  window.addEventListener("afterprint", layOut);

  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let isDark = dark.matches;
  function theme() {
    document.documentElement.style.colorScheme = isDark ? "dark" : "light";
    $("theme").setAttribute("aria-pressed", isDark);
    drawTimeline();
  }
  $("theme").addEventListener("click", () => {
    isDark = !isDark;
    theme();
  });

  for (const name of [...new Set(entries.map((entry) => entry[NAME]).filter(Boolean))].sort().slice(0, 500)) {
    $("topics").append(make("option", { value: name }));
  }
  summary();
  filter();
  theme();
  showDetails();
  document.documentElement.dataset.ready = "yes";
})();
