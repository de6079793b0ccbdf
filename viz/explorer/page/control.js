// Where we are in the run, and everything that a reader can do about it.

/** Show what has changed: `changed` nodes, or all. */
function update(changed = nodes) {
  for (const x of new Set(changed)) paintBox(x);
  const tick = at.tick,
    forward = tick <= N;
  $("tick").value = tick;
  $("where").textContent =
    tick === 0
      ? "before the run"
      : forward
        ? `forward ${tick}/${N}: ${ran[tick - 1].label}`
        : `backward ${tick - N}/${backward.length}: ${backward[tick - N - 1].node.label}`;
  $("tick").setAttribute("aria-valuetext", $("where").textContent);
  $("start").disabled = $("back").disabled = tick === 0;
  $("next").disabled = $("end").disabled = tick === LAST;
  $("use").disabled = !nextUse();
  lightTick();
  askAgain();
  sayTick();
  paintLedger();
}
function go(tick) {
  tick = Math.max(0, Math.min(LAST, tick));
  if (tick === at.tick) return;
  const before = known();
  at.tick = tick;
  $("off").textContent = "";
  showPath([]);
  const [from, to] = [Math.min(before, tick), Math.max(before, tick)];
  update(touched.slice(Math.max(0, from - 1), to + 1).flat());
}
const nextUse = () =>
  chosen()
    .uses.map(use => use.at)
    .filter(when => when > at.tick)
    .sort((a, b) => a - b)[0];

function choose(p) {
  at.p = p;
  at.cell = null;
  const {label, uses} = chosen(),
    losses = run.losses.map(([, name]) => name),
    several = losses.length > 1;
  $("use").textContent = `next ${label}.grad +=`;
  const said = make("span", {});
  said.append(
    `${label} is one array of numbers, and the run reads it ${uses.length === 1 ? "once" : `at ${uses.length} places`}. ` +
      `Nudge it, and it moves at ${uses.length === 1 ? "that place" : "all of them"}: ` +
      `so d${E}/d${label} is the sum, over the uses k, of what each use does, Σₖ ∂${E}/∂${label}⁽ᵏ⁾. ` +
      (several ? `${E} = ${losses.length > 2 ? `${losses[0]} + … + ${losses.at(-1)}` : losses.join(" + ")}. ` : ""),
  );
  said.append(
    make("b", {class: "explicit"}, "Explicit"),
    `: on the way from ${several ? "a" : "the"} loss to the use no state goes from one step to another. `,
    make("b", {class: "implicit"}, "Implicit"),
    ": some state does; this part is easily forgotten. ",
    "Move the slider: the run goes forward, then every += happens before your eyes.",
  );
  $("why").replaceChildren(said);
  showPath([]);
  fillLedger();
  drawMaps();
  $("cell").replaceChildren(
    make(
      "p",
      {class: "quiet"},
      "Click a cell, or move through a map with the arrow keys: " +
        "its path lights up in the picture, and its formula is written here.",
    ),
  );
  update([]);
}

function start() {
  run.cuts.forEach(cut => {
    cut.name = `the state cut after step ${cut.after}${cut.sequence && ` of the ${cut.sequence}`}`;
    cut.cells = cut.parameters.map(
      ([, , , cells]) => cells && new Map(cells.map(([r, c, ...rest]) => [`${r},${c}`, rest])),
    );
  });
  $("cut").append(
    make("option", {value: ""}, "nowhere"),
    ...run.cuts.map((cut, i) =>
      make("option", {value: i}, `after step ${cut.after}${cut.sequence && `, ${cut.sequence}`}`),
    ),
  );
  $("cut").disabled = !run.cuts.length;
  $("parameter").append(...parameters.map((p, i) => make("option", {value: i}, p.label)));
  $("parameter").value = at.p;
  $("lane").append(...run.lanes.map((lane, i) => make("option", {value: i}, lane.label || `recurrence ${i + 1}`)));
  $("tick").max = LAST;
  drawGraph();
  zoom(Math.max(0.9, Math.min(1.3, parseFloat(getComputedStyle($("scroller")).maxHeight) / run.size[1])));
  choose(at.p);
  update();
  bring(nodes[chosen().uses[0].edges[0][0]]);

  const staying = [document.querySelector("nav"), $("picture")];
  new ResizeObserver(() => {
    const [nav, picture] = staying.map(x => (getComputedStyle(x).position === "sticky" ? x.offsetHeight : 0));
    document.documentElement.style.setProperty("--nav", `${nav}px`);
    document.documentElement.style.setProperty("--above", `${nav + picture + 8}px`);
  }).observe(staying[1]);

  $("tick").addEventListener("input", event => go(+event.target.value));
  $("start").addEventListener("click", () => go(0));
  $("back").addEventListener("click", () => go(at.tick - 1));
  $("next").addEventListener("click", () => go(at.tick + 1));
  $("end").addEventListener("click", () => go(LAST));
  $("use").addEventListener("click", () => go(nextUse() ?? at.tick));
  $("parameter").addEventListener("change", event => choose(+event.target.value));
  $("lane").addEventListener("change", event => {
    at.lane = +event.target.value;
    drawStates();
  });
  for (const kind of ["explicit", "implicit"])
    $(kind).addEventListener("change", () => {
      graph.classList.toggle("no-implicit", !$("implicit").checked);
      fillLedger();
      drawMaps();
    });
  $("cut").addEventListener("change", event => {
    at.cut = event.target.value === "" ? null : run.cuts[+event.target.value];
    const cell = at.cell;
    $("cut-said").hidden = !at.cut;
    showPath([]);
    markCuts();
    fillLedger();
    drawMaps();
    update();
    if (at.cut) bring(nodes[at.cut.edges[0][0]]);
    if (cell) chooseTerm(cell[1], cell[2]);
  });
  $("predict").addEventListener("change", () => {
    at.shown.clear();
    $("off").textContent = "";
    update();
  });
  $("guess").addEventListener("submit", event => {
    event.preventDefault();
    const guess = parseFloat($("number").value.replace("−", "-").replace(",", "."));
    if (Number.isFinite(guess) && hidden()) answer(guess);
  });
  $("show").addEventListener("click", () => {
    if (hidden()) answer(null);
  });
  $("smaller").addEventListener("click", () => zoom(at.scale / 1.25));
  $("larger").addEventListener("click", () => zoom(at.scale * 1.25));
  $("fit").addEventListener("click", () => zoom(filling(graph.viewBox.baseVal)));

  // what the pointer is at
  const view = $("scroller"); // not the picture itself, which a listener for focus would make one more stop
  let pointed;
  view.addEventListener("pointerover", event => {
    const part = event.target.closest("[data-node], [data-wire]");
    pointed?.classList.remove("pointed");
    pointed = part;
    part?.classList.add("pointed");
    if (part?.dataset.node) inspect(nodes[part.dataset.node]);
    else if (part) inspectEdge(part.dataset.wire);
  });
  view.addEventListener("click", event => {
    const part = event.target.closest("[data-node]");
    if (part) focusNode(nodes[part.dataset.node]);
    else if (!event.target.closest("[data-wire]")) showPath([]);
  });

  // the keyboard in the picture: one stop, arrows from node to node
  const drawn = nodes.filter(x => boxes.has(x));
  let spot = drawn[0];
  function focusNode(x) {
    boxes.get(spot).group.setAttribute("tabindex", -1);
    spot = x;
    const {group} = boxes.get(x);
    group.setAttribute("tabindex", 0);
    group.setAttribute("aria-label", `${x.label}, ${x.remark}`);
    group.focus({preventScroll: true});
    inspect(x);
    bring(x);
  }
  boxes.get(spot).group.setAttribute("tabindex", 0);
  boxes.get(spot).group.setAttribute("aria-label", `${spot.label}, ${spot.remark}`);
  view.addEventListener("focusin", event => {
    if (event.target.closest("[data-node]")) inspect(spot);
  });
  view.addEventListener("keydown", event => {
    const step = {ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1}[event.key];
    if (step) focusNode(drawn[Math.max(0, Math.min(drawn.length - 1, drawn.indexOf(spot) + step))]);
    else if (event.key === "Enter") go(at.tick >= N && tickOf.has(spot.id) ? tickOf.get(spot.id) : spot.ran);
    else if (event.key === "Escape") showPath([]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  // a line of the sum lights its dot
  const rowOf = event => event.target.closest("tbody tr");
  const lightUse = event => {
    const row = rowOf(event);
    if (!row) return;
    showPath(
      row.line.edges.flatMap(([node, i]) => [
        `n${node}`,
        `e${node}_${i}`,
        `d${node}_${i}`,
        `n${chosen().node}`,
        `b${chosen().node}`,
      ]),
    );
    reveal();
  };
  for (const name of ["pointerover", "focusin"]) $("ledger").addEventListener(name, lightUse);
  for (const name of ["pointerleave", "focusout"]) $("ledger").addEventListener(name, () => showPath([]));
  const toUse = event => {
    const row = rowOf(event);
    if (row) go(row.line.at);
  };
  $("ledger").addEventListener("click", toUse);
  $("ledger").addEventListener("keydown", event => {
    const row = rowOf(event),
      other = {ArrowDown: row?.nextElementSibling, ArrowUp: row?.previousElementSibling}[event.key];
    if (event.key === "Enter") toUse(event);
    if (!other) return;
    event.preventDefault();
    row.tabIndex = -1;
    other.tabIndex = 0;
    other.focus();
  });

  document.addEventListener("keydown", event => {
    if (event.target.closest("input, select, textarea") || event.altKey || event.ctrlKey || event.metaKey) return;
    const to = {ArrowRight: at.tick + 1, ArrowLeft: at.tick - 1, Home: 0, End: LAST}[event.key];
    if (to !== undefined) {
      event.preventDefault();
      go(to);
    }
    if (event.key === "Escape") showPath([]);
  });
}
start();
