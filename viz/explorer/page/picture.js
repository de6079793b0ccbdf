// The picture: boxes, wires, what is lit, and what one sees of the cut.

const parts = new Map(); // id in the picture → its group
const boxes = new Map(); // node → {group, value, gradient}
let graph;

function drawGraph() {
  const [width, height] = run.size;
  graph = draw("svg", {
    id: "graph",
    viewBox: `0 0 ${width} ${height}`,
    role: "group",
    "aria-label":
      "The unrolled graph. The arrow keys walk through its nodes in the order in which they ran, " +
      "Enter goes to that tick.",
  });
  for (const [title, x, y, w, h] of run.bands) {
    const g = draw("g", {class: "band"}, graph);
    draw("rect", {x, y, width: w, height: h, rx: 8}, g);
    draw("text", {x: x + w / 2, y: y + 15}, g, title);
  }
  for (const [id, kind, arrow, flat] of run.wires) drawWire(id, kind, arrow, flat);
  for (const [id, kind, cx, cy] of run.dots)
    parts.set(id, draw("circle", {class: `dot ${kind}`, cx, cy, r: 3.2}, graph));
  for (const [id, x, y, w, h, bus] of run.boxes) drawBox(nodes[id], x, y, w, h, bus);
  $("scroller").append(graph);
}

function drawWire(id, kind, arrow, flat) {
  const points = flat.reduce((found, x, i) => (i % 2 ? found : [...found, [x, flat[i + 1]]]), []);
  const g = draw("g", {class: `wire ${kind}`, "data-wire": id}, graph);
  const [x1, y1] = points.at(-1),
    [x0, y0] = points.at(-2),
    length = Math.hypot(x1 - x0, y1 - y0) || 1;
  const dx = (x1 - x0) / length,
    dy = (y1 - y0) / length,
    bx = x1 - 6 * dx,
    by = y1 - 6 * dy;
  const d = "M" + (arrow ? [...points.slice(0, -1), [bx, by]] : points).map(p => p.join(" ")).join("L");
  draw("path", {class: "line", d}, g);
  if (arrow)
    draw(
      "path",
      {class: "head", d: `M${x1} ${y1}L${bx - 2.7 * dy} ${by + 2.7 * dx}L${bx + 2.7 * dy} ${by - 2.7 * dx}Z`},
      g,
    );
  draw("path", {class: "grip", d}, g);
  parts.set(id, Object.assign(g, {points}));
}

function drawBox(x, cx, cy, w, h, bus) {
  const group = draw(
    "g",
    {class: `box waiting${bus ? " bus" : ""}`, "data-node": x.id, tabindex: -1, role: "button"},
    graph,
  );
  draw("rect", {x: cx - w / 2, y: cy - h / 2, width: w, height: h, rx: 2}, group);
  const line = (row, name) => draw("text", {x: cx, y: cy - h / 2 + 12.5 + 14 * row, class: name}, group, "");
  const title = line(0, "name"),
    value = bus || h < 30 ? null : line(1, "value");
  const gradient = h < 30 ? null : line(bus ? 1 : 2, "gradient");
  title.textContent = x.label;
  const said = [bus && array(x.value).count > 1 ? brief(x.value) : "", x.remark].filter(Boolean).join("  ");
  if (said && !(bus && x.remark === "")) draw("tspan", {class: "remark", dx: 8}, title, said);
  boxes.set(x, {group, value, gradient, bus, cx, cy});
  parts.set(`n${x.id}`, group);
}

function gradientAt(x, tick) {
  let found;
  for (const [when, place] of x.events) {
    if (when > tick) break;
    found = place;
  }
  return found;
}

function paintBox(x) {
  const box = boxes.get(x);
  if (!box) return;
  const tick = known(),
    there = x.ran <= tick,
    g = gradientAt(x, tick),
    cut = at.cut?.changed[x.id];
  box.group.classList.toggle("waiting", !there);
  box.group.classList.toggle("reached", g !== undefined);
  if (box.value) write(box.value, there ? brief(x.value) : "?");
  if (!box.gradient) return;
  if (box.bus) {
    const p = parameters.findIndex(p => p.node === x.id);
    const [total] = (p >= 0 && at.cut?.parameters[p]) || [];
    let told = x.requires ? "–" : "none";
    if (g !== undefined && total === undefined) told = brief(g);
    else if (g !== undefined) told = allAdded(parameters[p], tick) ? brief(total) : "…"; // a cut has but the whole
    write(box.gradient, `${x.label}.grad = ${told}`);
  } else if (!x.requires) write(box.gradient, "");
  else if (g === undefined) write(box.gradient, "∇ –");
  else write(box.gradient, cut === undefined ? `∇ ${brief(g)}` : `cut: ‖∇‖ ${size(cut)}`);
}
/** Change text only where it changes: most ticks touch two or three boxes. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// ---- what is lit
let lit = [],
  path = [];
function light(ids) {
  for (const part of lit) part.classList.remove("lit");
  lit = ids.map(id => parts.get(id)).filter(Boolean);
  for (const part of lit) part.classList.add("lit");
}
function lightTick() {
  graph.querySelector(".plus")?.remove();
  if (!at.tick) return light([]);
  const x = at.tick <= N ? ran[at.tick - 1] : backward[at.tick - N - 1].node;
  const edges = at.tick <= N ? x.inputs.map((y, i) => ({i, x: nodes[y]})) : backward[at.tick - N - 1].edges;
  light([`n${x.id}`, ...edges.flatMap(({i, x: y}) => [`n${y.id}`, `e${x.id}_${i}`, `d${x.id}_${i}`])]);
  if (at.tick > N)
    for (const {i, entry} of edges) {
      const dot = entry && parts.get(`d${x.id}_${i}`);
      if (dot)
        draw(
          "text",
          {class: "plus", x: +dot.getAttribute("cx") + 8, y: +dot.getAttribute("cy") - 6},
          graph,
          `+= ${hidden() ? "?" : number(entry[0])}`,
        );
    }
  bring(x, edges.filter(edge => edge.x.id === chosen().node).map(({i}) => parts.get(`d${x.id}_${i}`))[0]);
}
/** Scroll the picture so that a node is seen, if it can be together with a dot on a line. */
function bring(x, dot) {
  const box = boxes.get(x),
    scroller = $("scroller");
  if (!box) return;
  const w = scroller.clientWidth,
    h = scroller.clientHeight,
    left = box.cx * at.scale;
  const y = dot ? +dot.getAttribute("cy") : box.cy,
    both = Math.abs(y - box.cy) * at.scale < h - 60;
  const top = (both ? (y + box.cy) / 2 : y) * at.scale;
  if (left < scroller.scrollLeft + 80 || left > scroller.scrollLeft + w - 80) scroller.scrollLeft = left - w / 2;
  if (top < scroller.scrollTop + 40 || top > scroller.scrollTop + h - 40) scroller.scrollTop = top - h / 2;
}

/** Does the gradient pass along this edge, or is it cut? */
const open = (x, i) => !at.cut?.edges.some(edge => edge[0] === x.id && edge[1] === i);

/** Light all ways from `uses`, edges [node, i], to `target`; returns the nodes on them. Cut edges lead nowhere. */
function lightPath(uses, target, from = []) {
  const after = new Set([...uses.filter(([node, i]) => open(nodes[node], i)).map(([node]) => node), ...from]);
  for (const x of nodes) if (x.inputs.some((y, i) => after.has(y) && open(x, i))) after.add(x.id);
  const on = new Set(after.has(target) ? [target] : []);
  for (const x of [...nodes].reverse())
    if (on.has(x.id))
      x.inputs.forEach((y, i) => {
        if (after.has(y) && open(x, i)) on.add(y);
      });
  const ids = [...on].flatMap(id => [
    `n${id}`,
    ...nodes[id].inputs.flatMap((y, i) => (on.has(y) && open(nodes[id], i) ? [`e${id}_${i}`, `d${id}_${i}`] : [])),
  ]);
  for (const [node, i] of uses)
    if (on.has(node))
      ids.push(`e${node}_${i}`, `d${node}_${i}`, `n${nodes[node].inputs[i]}`, `b${nodes[node].inputs[i]}`);
  showPath(ids);
  return [...on].map(id => nodes[id]).sort((a, b) => b.id - a.id);
}
function showPath(ids) {
  for (const part of path) part.classList.remove("path");
  path = ids.map(id => parts.get(id)).filter(Boolean);
  for (const part of path) part.classList.add("path");
  graph.classList.toggle("lighting", path.length > 0);
  if (!path.length) drawAt(at.zoom);
}

// ---- how large it is
/** Draw at a scale, the middle of what is seen where it was. */
function drawAt(scale) {
  if (scale === at.scale) return;
  const view = $("scroller"),
    factor = scale / at.scale,
    {clientWidth: w, clientHeight: h} = view;
  const [left, top] = [(view.scrollLeft + w / 2) * factor - w / 2, (view.scrollTop + h / 2) * factor - h / 2];
  at.scale = scale;
  graph.setAttribute("width", run.size[0] * scale);
  graph.setAttribute("height", run.size[1] * scale);
  view.scrollTo(left, top);
}
/** The size that the reader asks for: what a path needs that is lit is less lasting. */
function zoom(scale) {
  at.zoom = Math.max(SMALLEST, Math.min(2, scale));
  drawAt(at.zoom);
}
const SMALLEST = 0.25,
  LEGIBLE = 0.5,
  MARGIN = 24;
/** The scale at which so much of the picture fills what is seen of it. */
const filling = ({width, height}) =>
  Math.min(...[[$("scroller").clientWidth, width], [$("scroller").clientHeight, height]].map(([a, b]) => a / b));
/** Show all of the path that is lit, smaller if need be; false where it would be too small to be read. */
function reveal() {
  const ends = path
    .filter(part => !part.matches(".bus")) // a parameter's line runs through the whole picture
    .map(part => part.getBBox())
    .map(({x, y, width, height}) => [x, y, x + width, y + height]);
  const [x, y] = [0, 1].map(j => Math.min(...ends.map(end => end[j])) - MARGIN),
    [right, bottom] = [2, 3].map(j => Math.max(...ends.map(end => end[j])) + MARGIN);
  const scale = Math.min(at.zoom, filling({width: right - x, height: bottom - y})),
    view = $("scroller");
  drawAt(Math.max(scale, Math.min(LEGIBLE, at.zoom)));
  const inside = (from, to, start, length) => from * at.scale >= start && to * at.scale <= start + length;
  if (scale < at.scale) return false;
  if (!inside(x, right, view.scrollLeft, view.clientWidth))
    view.scrollLeft = ((x + right) / 2) * at.scale - view.clientWidth / 2;
  if (!inside(y, bottom, view.scrollTop, view.clientHeight))
    view.scrollTop = ((y + bottom) / 2) * at.scale - view.clientHeight / 2;
  return true;
}

function markCuts() {
  for (const mark of graph.querySelectorAll(".mark")) mark.remove();
  for (const [node, i] of at.cut?.edges ?? []) {
    const wire = parts.get(`e${node}_${i}`);
    if (!wire) continue;
    const spans = wire.points
      .slice(1)
      .map(([x, y], j) => [Math.hypot(x - wire.points[j][0], y - wire.points[j][1]), j]);
    const j = spans.sort((a, b) => b[0] - a[0])[0][1],
      [x0, y0] = wire.points[j],
      [x1, y1] = wire.points[j + 1];
    const x = (x0 + x1) / 2,
      y = (y0 + y1) / 2,
      flat = Math.abs(x1 - x0) > Math.abs(y1 - y0);
    const g = draw("g", {class: "mark"}, graph);
    draw("path", {class: "gap", d: flat ? `M${x - 5} ${y}h10` : `M${x} ${y - 5}v10`}, g);
    draw(
      "path",
      {d: [-5, 5].map(o => (flat ? `M${x + o - 4} ${y + 9}l8 -18` : `M${x - 9} ${y + o + 4}l18 -8`)).join("")},
      g,
    );
  }
}
