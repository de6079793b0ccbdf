// The two maps, and what is behind a cell of them.

const cellSize = (n, width) => Math.max(3, Math.min(42, Math.floor((width - 60) / n)));

/** A grid of cells: cells[row][column] = {norm, kind} or null. It is one stop for the keyboard. */
function drawMap(host, {rows, columns, at: read, label, pick, cutline}) {
  const side = cellSize(Math.max(rows.length, columns.length), host.clientWidth),
    left = 46,
    top = 22,
    small = side < 26;
  const svg = draw("svg", {
    class: `map${small ? " small" : ""}`,
    width: left + side * columns.length + 6,
    height: top + side * rows.length + 6,
    tabindex: 0,
    role: "application",
    "aria-label": label,
    "data-side": side,
  });
  const found = rows.map((_, r) => columns.map((_, c) => read(r, c)));
  const norms = found
    .flat()
    .filter(x => x && x.norm > 0 && Number.isFinite(x.norm))
    .map(x => Math.log(x.norm));
  const low = Math.min(...norms),
    span = Math.max(...norms) - low || 1,
    every = Math.ceil(24 / side);
  columns.forEach((name, c) => {
    if (c % every === 0) draw("text", {class: "axis", x: left + side * (c + 0.5), y: top - 10}, svg, name);
  });
  rows.forEach((name, r) => {
    if (r % every === 0) draw("text", {class: "axis", x: left / 2, y: top + side * (r + 0.5)}, svg, name);
  });
  found.forEach((line, r) =>
    line.forEach((x, c) => {
      if (!x) return;
      const at = {
        x: left + side * c + 1,
        y: top + side * r + 1,
        width: side - (small ? 0 : 2),
        height: side - (small ? 0 : 2),
      };
      const rect = draw(
        "rect",
        {
          ...at,
          class: `cell ${x.norm ? x.kind : "gone"} ${x.off ? "off" : ""}`,
          "data-r": r,
          "data-c": c,
          style: `--share:${x.norm ? (0.08 + (0.92 * (Math.log(x.norm) - low)) / span).toFixed(3) : 0}`,
        },
        svg,
      );
      if (!small)
        draw(
          "text",
          {x: at.x + at.width / 2, y: at.y + at.height / 2, style: `font-size:${Math.min(11, side / 3.7)}px`},
          svg,
          short(x.norm),
        );
    }),
  );
  if (cutline !== undefined) {
    const y = top + side * cutline[0],
      x = left + side * cutline[1];
    draw(
      "path",
      {class: "cutline", d: `M${left} ${y}H${left + side * columns.length}M${x} ${top}V${top + side * rows.length}`},
      svg,
    );
  }
  const frame = draw("rect", {class: "frame", width: side, height: side, visibility: "hidden"}, svg);
  let spot = [rows.length - 1, 0];
  const choose = (r, c) => {
    if (!found[r]?.[c]) return false;
    spot = [r, c];
    for (const [key, value] of Object.entries({x: left + side * c, y: top + side * r, visibility: "visible"}))
      frame.setAttribute(key, value);
    pick(r, c);
    return true;
  };
  svg.addEventListener("click", event => {
    const {r, c} = event.target.dataset;
    if (r !== undefined) choose(+r, +c);
  });
  svg.addEventListener("keydown", event => {
    const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Enter: [0, 0]}[
      event.key
    ];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    if (frame.getAttribute("visibility") === "hidden" && choose(...spot)) return;
    for (
      let [r, c] = [spot[0] + step[0], spot[1] + step[1]];
      found[r] && c >= 0 && c < columns.length;
      r += step[0], c += step[1]
    )
      if (choose(r, c) || !(step[0] || step[1])) return;
  });
  host.replaceChildren(svg);
  return choose;
}
const short = x =>
  !Number.isFinite(x)
    ? String(x).slice(0, 3)
    : x === 0
      ? "0"
      : x >= 100 || x < 0.01
        ? x.toExponential(0).replace("e-", "e−").replace("e+", "e")
        : String(+x.toPrecision(2));

let chooseTerm = () => {};
function drawMaps() {
  const p = chosen(),
    explicitOn = $("explicit").checked,
    implicitOn = $("implicit").checked;
  $("maps-title").textContent = "Which step does it come from?";
  $("terms-title").textContent =
    `‖A[t,k]‖ = ‖∂${run.losses.length > 1 ? "Eₜ" : run.losses[0][1]}/∂${p.label}⁽ᵏ⁾‖: ` +
    "a row for each loss, a column for each use";
  const s = at.cut?.after,
    inRun = at.cut && sequenceOf(p.uses[0].edges[0][0]) === sequenceOf(run.losses[0][0]);
  const stands = (r, c) => p.kinds[r][c] !== "." || couldReach(p, r, c);
  const past = (list, time) => list.filter(x => (time(x) ?? 0) <= s).length;
  chooseTerm = drawMap($("terms"), {
    rows: run.losses.map(([, label]) => label),
    columns: p.uses.map(({k}) => k ?? "–"),
    at: (r, c) => {
      const kind = p.kinds[r][c],
        norm = cell(at.p, r, c)[0];
      if (!stands(r, c)) return null;
      return {norm, kind, off: kind === "e" ? !explicitOn : kind === "i" ? !implicitOn : !explicitOn && !implicitOn};
    },
    label:
      `The norms of the terms of ${p.label}: a row for each loss, a column for each step that uses it. ` +
      "The arrow keys move, and say what is there.",
    pick: (r, c) => {
      at.cell = ["term", r, c];
      sayTerm(r, c);
    },
    cutline: inRun ? [past(run.losses, x => x[2]), past(p.uses, x => x.k)] : undefined,
  });
  drawStates();
  const terms = run.losses.flatMap((_, r) => p.uses.map((_, c) => (stands(r, c) ? [cell(at.p, r, c)[0]] : [])).flat());
  const sums = terms.reduce((a, b) => a + b, 0),
    whole = at.cut ? at.cut.parameters[at.p][2] : p.norms[0];
  $("norms").textContent =
    `${rim(p)} ${at.cut ? `With ${at.cut.name}: t` : "T"}he norms of the terms of this map, ` +
    `${terms.length} cells, one for each ${run.losses.length > 1 ? "loss and use" : "use"}, sum to ${size(sums)}; ` +
    `the norm of their sum, ‖${p.label}.grad‖, is ${size(whole)}: terms that point different ways cancel.`;
}
/** Does any path lead from the use to the loss? A term of exactly 0 on a path is worth a cell, and a word why. */
function couldReach(p, r, c) {
  const use = p.uses[c],
    loss = run.losses[r][0];
  return use.edges.some(([node]) => reaches(loss).has(node));
}
const reachable = new Map();
function reaches(target) {
  if (!reachable.has(target)) {
    const found = new Set([target]),
      open = [target];
    while (open.length)
      for (const y of nodes[open.pop()].inputs)
        if (!found.has(y)) {
          found.add(y);
          open.push(y);
        }
    reachable.set(target, found);
  }
  return reachable.get(target);
}
function rim(p) {
  const kinds = p.kinds.join("");
  if (!kinds.includes("i") && !kinds.includes("b")) return "All of it is explicit: blue, with a solid rim.";
  return (
    (kinds.includes("e") ? "Solid blue rim: explicit, no dashed line on its way. " : "") +
    "Dashed rim: implicit, back through the states of other steps." +
    (kinds.includes("b") ? " Some cells are both." : "")
  );
}

function drawStates() {
  const lane = run.lanes[at.lane],
    J = lane?.J;
  $("lane").hidden = run.lanes.length < 2;
  $("states-title").textContent = J ? "‖∂sₜ/∂sₖ‖: how much of a state is left in a later one" : "";
  if (!J)
    return $("states").replaceChildren(
      make(
        "p",
        {class: "quiet"},
        lane
          ? "States of this run are no rows of a batch: their Jacobians are not shown."
          : "No state goes from one step to another.",
      ),
    );
  const order = lane.steps.map((t, n) => [t, n]).sort((a, b) => a[0] - b[0]),
    s = at.cut?.after;
  const later = order.filter(([, n]) => n > 0),
    earlier = order.filter(([, n]) => n < J.length - 1);
  const labels = n => lane.states[n].map(id => nodes[id].label);
  const name = n => (labels(n).length > 1 ? `(${labels(n).join(", ")})` : labels(n)[0]);
  drawMap($("states"), {
    rows: later.map(([t, n]) => (labels(n).length > 1 ? `s${spelled(SUB, t)}` : name(n))),
    columns: earlier.map(([t]) => t),
    at: (r, c) => {
      const [t, n] = later[r],
        [k, m] = earlier[c];
      if (m >= n) return null;
      const gone = at.cut && at.cut.sequence === String(sequenceOf(lane.states[n][0]) ?? "") && t > s !== k > s;
      return {norm: gone ? 0 : J[n][m], kind: "i", off: !$("implicit").checked};
    },
    label:
      "The norms of ∂s_t/∂s_k: a row for each later state, a column for each earlier one. " +
      "The arrow keys move, and say what is there.",
    pick: (r, c) => {
      at.cell = null;
      sayJacobian(lane, later[r][1], earlier[c][1], name);
    },
    cutline:
      at.cut && at.cut.sequence === String(sequenceOf(lane.states.at(-1)[0]) ?? "")
        ? [later, earlier].map(list => list.filter(([t]) => t <= s).length)
        : undefined,
  });
}

/** The states on a path, a name for each step, the last one first: h₃, or (h₃, c₃). */
function statesOn(on) {
  const steps = new Map();
  for (const x of on) if (x.state) steps.set(x.scope, [...(steps.get(x.scope) ?? []), x]);
  return [...steps].map(([scope, each]) => ({
    scope,
    each,
    name:
      each.length > 1
        ? `(${each
            .map(x => x.label)
            .reverse()
            .join(", ")})`
        : each[0].label,
  }));
}
/** Does every way from `target` back to one of `ends`, nodes, lead through one of these states? */
function separates({each}, on, target, ends) {
  const inside = new Set(on.map(x => x.id)),
    walls = new Set(each.map(x => x.id)),
    found = new Set(walls.has(target) ? [] : [target]);
  for (const id of found)
    nodes[id].inputs.forEach((y, i) => {
      if (inside.has(y) && !walls.has(y) && open(nodes[id], i)) found.add(y);
    });
  return !ends.some(id => found.has(id));
}
/** The ways from `target` back to `uses`: how many, and how many dashed lines they cross, at least and at most. */
function waysBack(uses, on, target) {
  const found = new Map([[target, {count: 1, least: 0, most: 0}]]),
    none = {count: 0, least: Infinity, most: 0};
  const add = (a, b, carried) => ({
    count: a.count + b.count,
    least: Math.min(a.least, b.least + carried),
    most: Math.max(a.most, b.most + carried),
  });
  for (const x of on)
    x.inputs.forEach((y, i) => {
      if (open(x, i)) found.set(y, add(found.get(y) ?? none, found.get(x.id), x.carried.includes(i)));
    });
  return uses
    .filter(([node, i]) => found.has(node) && open(nodes[node], i))
    .reduce((sum, [node, i]) => add(sum, found.get(node), nodes[node].carried.includes(i)), none);
}
function sayWays({count, least, most}) {
  const lines = n => (n === 0 ? "no dashed line" : `${n} dashed line${n > 1 ? "s" : ""}`);
  const way = count === 1 ? "its way back crosses" : "each of its ways back crosses";
  return least === most ? `: ${way} ${lines(most)}. ` : `: its ways back cross from ${least} to ${lines(most)}. `;
}

function sayTerm(r, c) {
  const p = chosen(),
    {k, edges} = p.uses[c],
    [loss, name] = run.losses[r],
    [norm, entry] = cell(at.p, r, c);
  const on = lightPath(edges, loss),
    ends = edges.map(([node]) => node),
    states = statesOn(on),
    W = use(p, k),
    term = `∂${name}/∂${W}`;
  if (on.length && !reveal()) bring(nodes[ends[0]]);
  const lanes = new Set(states.map(({each}) => laneOf(each[0])));
  const single = states.every(state => separates(state, on, loss, ends)),
    chain = single && lanes.size < 2;
  const own = states.find(({scope}) => ends.every(id => nodes[id].scope === scope));
  const names = [name, ...(chain ? states.map(state => state.name) : [])];
  const factors = chain
    ? [...names.slice(1).map((to, j) => `∂${names[j]}/∂${to}`), `∂⁺${names.at(-1)}/∂${p.label}`]
    : own && separates(own, on, loss, ends)
      ? [`d${name}/d${own.name}`, `∂⁺${own.name}/∂${p.label}`]
      : [];
  const product = (factors.length > 8 ? [...factors.slice(0, 3), "…", ...factors.slice(-3)] : factors).join(" · ");
  // a chain has a factor for every state; where they stand on several ways, or in several lanes, it is none
  const deltas = at.cut ? [] : states.map(({each, name: state}) => [`d${name}/d${state}`, ...deltaOf(r, each)]);
  const rows = deltas.map((row, j) => [chain ? `${j ? "· " : ""}${factors[j]}` : "", ...row]);
  const shown = rows.length > 12 ? [...rows.slice(0, 5), ["", "…", "", ""], ...rows.slice(-5)] : rows;
  const last = [
    chain ? `${rows.length ? "· " : ""}${factors.at(-1)}` : "",
    term + entryName(p),
    number(entry),
    `‖·‖ ${size(norm)}`,
  ];
  const why =
    norm || !edges.length
      ? ""
      : at.cut && p.A[r][c]
        ? "0: the cut lies across every way."
        : whyZero(nodes[edges[0][0]], edges[0][1]);
  const line = ([factor, what, text, size]) =>
    make(
      "tr",
      {},
      make("td", {}, factor),
      make("td", {}, `${factor && "→ "}${what}${text && ` = ${text}`}`),
      make("td", {}, size),
    );
  const ways = waysBack(edges, on, loss),
    kind = ways.most === 0 ? "explicit" : ways.least === 0 ? "both" : "implicit";
  const sum = p.uses.reduce((found, _, column) => found + cell(at.p, r, column)[0], 0),
    whole = `the norm of their sum, ‖d${name}/d${p.label}‖, is ${size(p.rows[r])}`;
  $("cell").replaceChildren(
    make("p", {class: "formula"}, `${term}${on.length ? product && ` = ${product}` : " = 0"}`),
    make("table", {}, ...(on.length ? [...shown, last].map(line) : [])),
    make(
      "p",
      {},
      ...(on.length ? [badge(kind), sayWays(ways)] : []),
      on.length && !single ? "A sum over several ways: the derivatives above are no factors of one product. " : "",
      why || `The norms of all the terms of ${name} sum to ${size(sum)}`,
      why ? "" : at.cut ? `, with ${at.cut.name}.` : `; ${whole}.`,
    ),
  );
}
/** dE_t/ds of one state: its numbers where they are few, and its norm. */
function deltaOf(row, each) {
  for (const lane of run.lanes) {
    const step = lane.states.findIndex(ids => each.every(x => ids.includes(x.id)));
    if (step < 0) continue;
    const places = each.map(x => lane.deltas[row * lane.steps.length + step][lane.states[step].indexOf(x.id)]);
    const arrays = places.filter(x => x !== null).map(array);
    return [
      places
        .filter(x => x !== null && array(x).count <= 8)
        .map(full)
        .join(" "),
      `‖·‖ ${size(Math.hypot(...arrays.map(x => x.norm)))}`,
    ];
  }
  return ["", ""];
}

function sayJacobian(lane, n, m, name) {
  const [target, from] = [lane.states[n].at(-1), lane.states[m]],
    on = lightPath([], target, from),
    J = lane.J;
  if (on.length && !reveal()) bring(nodes[target]);
  const between = statesOn(on).filter(({each}) => !each.some(x => x.id === target || from.includes(x.id)));
  const chain = between.every(state => separates(state, on, target, from));
  const steps = Array.from({length: n - m}, (_, j) => [n - j, n - j - 1]);
  const factors = steps.map(([a, b]) => `∂${name(a)}/∂${name(b)}`),
    sizes = steps.map(([a, b]) => J[a][b]);
  const fold = list => (list.length > 8 ? [...list.slice(0, 3), "…", ...list.slice(-3)] : list);
  const bound = sizes.reduce((a, b) => a * b, 1),
    gone = on.length === 0;
  $("cell").replaceChildren(
    make(
      "p",
      {class: "formula"},
      `∂${name(n)}/∂${name(m)}` +
        (gone ? " = 0: the cut lies between them" : chain ? ` = ${fold(factors).join(" · ")}` : ""),
    ),
    make(
      "p",
      {},
      gone
        ? ""
        : `‖·‖ = ${size(J[n][m])}` +
            (!chain
              ? "; some ways pass by a state between them, so it is no product of the steps."
              : steps.length > 1
              ? `; the factors alone have the norms ${fold(sizes.map(size)).join(" · ")}, ` +
            `whose product ${size(bound)} is an upper bound.`
              : "."),
    ),
  );
}
