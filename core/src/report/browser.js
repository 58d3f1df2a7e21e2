"use strict";
(() => {
  const all = JSON.parse(document.getElementById("run-data").textContent);
  const $ = (id) => document.getElementById(id);
  const list = $("list"), detail = $("detail"), find = $("find"), only = $("only"), count = $("count");
  // Only textContent is ever set: what a model wrote stays text.
  const el = (tag, cls, text) => {
    const node = document.createElement(tag);
    if (cls) node.className = cls;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const right = (q) => q.paths.filter((p) => p.ok).length;
  const tests = {
    all: () => true,
    pairs: (q) => q.paths.some((p) => p.p),
    labels: (q) => q.paths.some((p) => p.s.some((s) => s[3])),
    mixed: (q) => right(q) > 0 && right(q) < q.paths.length,
    never: (q) => q.paths.length > 0 && right(q) === 0,
    gained: (q) => q.greedy.length > 1 && !q.greedy[0][1] && models(q).at(-1)[1],
    lost: (q) => q.greedy.length > 1 && q.greedy[0][1] && !models(q).at(-1)[1],
  };
  const models = (q) => (q.greedy.some((g) => g[0] !== "control") ? q.greedy.filter((g) => g[0] !== "control") : q.greedy);
  let shown = [], limit = 100, current = -1;

  function filter() {
    const words = find.value.toLowerCase();
    const wanted = tests[only.value] || tests.all;
    shown = all.filter((q) => wanted(q) && (!words || (q.id + "\n" + q.q).toLowerCase().includes(words)));
    limit = 100;
    current = shown.length ? 0 : -1;
    fill();
    open(current, false);
  }
  function fill() {
    list.replaceChildren();
    shown.slice(0, limit).forEach((q, n) => {
      const item = el("button", "item");
      item.type = "button";
      item.append(el("span", "id", q.id));
      const dots = el("span", "dots");
      (q.paths.length ? q.paths.map((p) => p.ok) : q.greedy.map((g) => g[1])).slice(0, 24)
        .forEach((ok) => dots.append(el("i", ok ? "yes" : "no")));
      item.append(dots);
      item.setAttribute("aria-label", q.id + (q.paths.length ? `, ${right(q)} of ${q.paths.length} paths right` : ""));
      item.addEventListener("click", () => open(n, true));
      list.append(item);
    });
    if (shown.length > limit) {
      const more = el("button", "more", `Show ${Math.min(200, shown.length - limit)} more`);
      more.type = "button";
      more.addEventListener("click", () => { limit += 200; fill(); mark(); });
      list.append(more);
    }
    count.textContent = `${shown.length} of ${all.length} questions`;
  }
  function mark() {
    [...list.children].forEach((item, n) => item.setAttribute("aria-current", n === current ? "true" : "false"));
  }
  const tone = (score) => (score === null ? "none" : score >= 0.5 ? "yes" : "no");
  function path(p) {
    const box = el("article", "path " + (p.ok ? "right" : "wrong"));
    box.id = "path-" + p.id;
    const head = el("header");
    head.append(el("b", "verdict", p.ok ? "right" : "wrong"));
    head.append(el("span", "", "#" + p.id));
    head.append(el("span", "", "from M" + p.m));
    if (p.v) head.append(el("span", "", p.v));
    if (p.a !== undefined) head.append(el("span", "", "answer " + p.a));
    if (p.r !== undefined) head.append(el("span", "reward", "reward " + p.r.toFixed(3)));
    if (p.d !== undefined) head.append(el("span", "dropped", "dropped: " + p.d));
    box.append(head);
    const text = el("div", "text");
    let at = 0;
    for (const [start, end, score, label] of p.s) {
      if (p.t.slice(at, start).trim()) text.append(el("span", "gap", p.t.slice(at, start).trim()));
      const line = el("div", "step " + tone(score));
      line.append(el("span", "what", p.t.slice(start, end)));
      const notes = el("span", "notes");
      if (label) notes.append(el("span", label[2] ? "label yes" : "label no", `${label[0]}/${label[1]} rollouts`));
      if (score !== null) {
        const bar = el("meter", "score");
        bar.min = 0; bar.max = 1; bar.low = 0.5; bar.optimum = 1; bar.value = score;
        bar.setAttribute("aria-label", "step score");
        notes.append(bar, el("span", "number", score.toFixed(2)));
      }
      line.append(notes);
      text.append(line);
      at = end;
    }
    if (p.t.slice(at).trim()) text.append(el("span", "gap", p.t.slice(at).trim()));
    box.append(text);
    if (p.p) {
      const foot = el("footer");
      p.p.forEach(([iteration, chosen, other, margin]) => {
        const link = el("a", chosen ? "chosen" : "rejected",
          `${chosen ? "chosen over" : "rejected for"} #${other} in iteration ${iteration}, margin ${margin.toFixed(2)}`);
        link.href = "#path-" + other;
        link.addEventListener("click", (event) => {
          event.preventDefault();
          const target = document.getElementById("path-" + other);
          if (target) { target.scrollIntoView({ block: "center" }); target.tabIndex = -1; target.focus({ preventScroll: true }); }
        });
        foot.append(link);
      });
      box.append(foot);
    }
    return box;
  }
  function open(n, move) {
    current = n;
    mark();
    detail.replaceChildren();
    const q = shown[n];
    if (!q) { detail.append(el("p", "empty", "No question matches.")); return; }
    detail.append(el("h3", "", q.id), el("pre", "prompt", q.q));
    if (q.greedy.length) {
      detail.append(el("h4", "", "Greedy answer of each model"));
      const rows = el("div", "greedy");
      q.greedy.forEach(([name, ok, text]) => {
        const row = el("details", ok ? "right" : "wrong");
        const summary = el("summary");
        summary.append(el("b", "", name), el("span", "verdict", ok ? "right" : "wrong"));
        row.append(summary, el("pre", "", text));
        rows.append(row);
      });
      rows.lastElementChild.open = true;
      detail.append(rows);
    }
    if (q.paths.length) detail.append(el("h4", "", `${q.paths.length} sampled paths, ${right(q)} right`));
    q.paths.forEach((p) => detail.append(path(p)));
    detail.scrollTop = 0;
    if (move && matchMedia("(max-width: 760px)").matches) detail.scrollIntoView();
  }
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !shown.length) return;
    event.preventDefault();
    const next = Math.max(0, Math.min(shown.length - 1, current + step));
    if (next >= limit) { limit += 200; fill(); }
    open(next, false);
    list.children[next].focus();
  });
  find.addEventListener("input", filter);
  only.addEventListener("change", filter);
  filter();
})();
