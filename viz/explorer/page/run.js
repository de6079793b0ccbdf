"use strict";
/* Walks through one run of E = Σ E_t. Nothing is computed here but sums of what the page prints beside them: every
   number is the engine's own, in `data`. What its lists hold, `data.py` says; here they get names. */

// ------------------------------------------------------------------------------------------------------- the run
const $ = id => document.getElementById(id);
const run = JSON.parse($("data").textContent);
/** Numbers as they are; JSON has no nan and no infinity, which come as text. */
const real = x => (Array.isArray(x) ? x.map(real) : typeof x === "string" ? Number(x.replace("inf", "Infinity")) : x);
run.arrays = real(run.arrays);
const nodes = run.nodes.map(
  ([label, remark, op, equation, scope, source, value, inputs, state, carried, requires], id) => ({
    id,
    label,
    remark,
    op,
    equation,
    scope,
    source,
    value,
    inputs,
    state,
    carried,
    requires,
    events: [],
    ran: 0,
  }),
);
const ran = nodes.filter(x => x.op);
const backward = run.backward.map(([node, kind, incoming, edges]) => ({
  node: nodes[node],
  kind,
  incoming,
  edges: edges.map(([i, kind, contribution, after, rule, product, jacobian, entry]) => ({
    i,
    kind,
    contribution,
    after,
    rule,
    product,
    jacobian,
    entry: real(entry),
    x: nodes[nodes[node].inputs[i]],
  })),
}));
const N = ran.length,
  LAST = N + backward.length;
const root = nodes[run.root],
  E = root.label;
const parameters = run.parameters.map(({A, entries, rows, sums, norms, uses, ...rest}) => ({
  ...rest,
  A: real(A),
  entries: real(entries),
  rows: real(rows),
  sums: real(sums),
  norms: real(norms),
  uses: real(uses).map(([k, edges, entry, explicit, norm]) => ({k, edges, entry, explicit, norm})),
}));
/** Have all uses of a parameter added what they add? */
const allAdded = (p, tick) => p.uses.every(use => use.at <= tick);
for (const lane of run.lanes) lane.J = real(lane.J);
for (const cut of run.cuts) cut.parameters = real(cut.parameters);
const flows = new Map(); // "node_i" → what flowed back through that edge, and at which tick
const touched = [[]]; // tick → the nodes whose box it changes

ran.forEach((x, place) => {
  x.ran = place + 1;
  touched.push([x]);
});
backward.forEach((tick, place) => {
  const at = N + 1 + place;
  if (tick.node === root) root.events.push([at, tick.incoming]);
  for (const edge of tick.edges) {
    edge.before = edge.x.events.at(-1)?.[1];
    edge.x.events.push([at, edge.after ?? edge.contribution]);
    flows.set(`${tick.node.id}_${edge.i}`, {...edge, at});
  }
  touched.push([tick.node, ...tick.edges.map(edge => edge.x)]);
});
const tickOf = new Map(backward.map((tick, place) => [tick.node.id, N + 1 + place]));
for (const p of parameters)
  for (const use of p.uses) use.at = Math.max(...use.edges.map(([node]) => tickOf.get(node) ?? LAST));

/** A scope as its parts: layer=0, direction=forward, t=4. */
const partsOf = scope => scope.split(/, (?=\w+=)/);
const isStep = part => part.startsWith("t=");
const laneOf = x =>
  partsOf(x.scope)
    .filter(part => !isStep(part))
    .join(", ");
const everywhere = new Map(); // layer, direction, … → all of them that the run has
for (const part of ran.flatMap(x => partsOf(x.scope))) {
  const name = part.split("=", 1)[0];
  everywhere.set(name, (everywhere.get(name) ?? new Set()).add(part));
}
/** Where a node belongs: its step, and of layer, direction and sequence what the run has several of. */
const whereOf = x =>
  partsOf(x.scope)
    .filter(part => isStep(part) || everywhere.get(part.split("=", 1)[0])?.size > 1)
    .join(", ");

// ----------------------------------------------------------------------------------------------------- how it is said
const SUB = "₀₁₂₃₄₅₆₇₈₉",
  SUP = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const spelled = (digits, n) =>
  String(n)
    .replace(/[0-9]/g, d => digits[d])
    .replace("-", digits === SUB ? "₋" : "⁻");
const use = (p, k) => (k === null ? p.label : `${p.label}⁽${spelled(SUP, k)}⁾`);

function number(x, digits = 4) {
  if (!Number.isFinite(x)) return String(x);
  const size = Math.abs(x),
    sign = x < 0 ? "−" : "+";
  if (size === 0) return "0";
  return (
    sign +
    (size >= 0.001 && size < 1e5
      ? size.toFixed(Math.max(0, digits - (size >= 10) - (size >= 1000)))
      : size.toExponential(2).replace("e-", "e−").replace("e+", "e"))
  );
}
/** A number in about five characters, as the boxes of the picture have room for it. */
function boxed(x) {
  if (!Number.isFinite(x)) return String(x);
  const size = Math.abs(x),
    sign = x < 0 ? "-" : "+";
  return (
    sign +
    (size === 0 || (size >= 0.005 && size < 100)
      ? size.toFixed(2)
      : size >= 100 && size < 1e5
        ? size.toFixed(0)
        : size.toExponential(0))
  );
}
const size = x =>
  !Number.isFinite(x)
    ? String(x)
    : x === 0
      ? "0"
      : Math.abs(x) >= 0.001 && Math.abs(x) < 1e4
        ? String(+x.toPrecision(3))
        : x.toExponential(1).replace("e-", "e−").replace("e+", "e");

/** An array of the pool: {shape, values (null if large), first, norm}. */
function array(place) {
  const [shape, values, norm, min, max, first] = run.arrays[place];
  return values
    ? {shape, values, first: values.slice(0, 3), norm: Math.hypot(...values), count: values.length}
    : {shape, values, norm, min, max, first, count: shape.reduce((a, b) => a * b, 1)};
}

function brief(place) {
  // in a box
  const {first, count} = array(place);
  return count ? first.map(boxed).join(" ") + (count > 3 ? " …" : "") : "empty";
}

function full(place) {
  const {shape, values, norm, min, max, count} = array(place);
  if (count === 1) return number(values[0]);
  if (!values) return `${shape.join(" × ")} numbers, ‖·‖ ${size(norm)}, from ${number(min)} to ${number(max)}`;
  const columns = shape.at(-1) || 1,
    rows = [];
  for (let i = 0; i < values.length; i += columns)
    rows.push(
      values
        .slice(i, i + columns)
        .map(x => number(x))
        .join(" "),
    );
  return rows.length > 1 ? `[${rows.join(" ; ")}]` : `[${rows[0] ?? ""}]`;
}

/** An element: make("td", {class: "x"}, "text", child, …). Text is always text. */
function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes))
    if (value !== null && value !== false) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
function draw(tag, attributes, parent, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent?.append(made);
  return made;
}
const gradientName = x =>
  x.op ? `d${E}/d${/[ +\-−∘/·]/.test(x.label) ? `(${x.label})` : x.label}` : `${x.label}.grad`;
const entryName = p => (p.entry.length ? `[${p.entry.join(",")}]` : "");

// ------------------------------------------------------------------------------------------------------ where we are
const at = {tick: 0, p: run.chosen, cut: null, shown: new Set(), cell: null, lane: 0, zoom: 1, scale: 0, decimals: 4};
const chosen = () => parameters[at.p];
const hidden = () => $("predict").checked && at.tick > 0 && !at.shown.has(at.tick) && questionOf(at.tick) !== null;
/** The last tick whose numbers may be seen. */
const known = () => (hidden() ? at.tick - 1 : at.tick);
