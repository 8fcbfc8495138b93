// The viewer: an image at full resolution with its map, whose threshold can be moved.
const viewer = document.getElementById("viewer");
const known = JSON.parse(viewer.dataset.settings);
const at = (selector) => viewer.querySelector(selector);
const stage = at(".stage"), layers = at(".layers"), slider = at("input.threshold");
const VERDICTS = ["OK", "REVIEW", "NG"];
const OUTLINES = { REVIEW: [255, 200, 0, 255], NG: [255, 32, 32, 255] };  // as in the overlays
const FAINT = 0.75;  // of the threshold, below which the map leaves the picture grey
const STORED = `inspect-gan corrections of ${location.pathname}`;

let row = null;  // of the table, whose image is shown
let pending = null;  // script that brings the next map
let view = null;  // its size, levels of its pixels, and the regions at the threshold
let place = { x: 0, y: 0, scale: 1 };  // of the picture on the stage
let chosen = 0;  // number of a region
let corrections = {};
try { corrections = JSON.parse(localStorage.getItem(STORED)) || {}; } catch { /* no storage: kept until the page is left */ }

const openable = () => rows().filter((one) => !one.hidden && one.dataset.view);
const threshold = () => known.levels[known.thresholds[slider.value]];
const short = (value) => String(Number(value.toPrecision(3)));
const correction = () => corrections[row.dataset.image] || { false_alarms: [], missed: [] };

function open(next) {
  row = next;
  chosen = 0;
  at(".title").textContent = row.dataset.image;
  at(".note").textContent = "loading";
  if (pending) pending.remove();
  pending = document.createElement("script");
  pending.src = row.dataset.view;
  pending.onerror = () => { at(".note").textContent = `${row.dataset.view} is missing: keep the report in its folder`; };
  document.head.append(pending);
  at("img").src = row.dataset.picture;
  if (!viewer.open) viewer.showModal();
  stage.focus();
}

// Called by the script of an image.
function inspectGanMap(entry) {
  if (document.currentScript !== pending) return;  // another image was opened meanwhile
  const mine = pending;
  const picture = new Image();
  picture.onload = () => {
    if (mine !== pending) return;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [picture.width, picture.height];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    const levels = new Uint8Array(pixels.length / 4);
    for (let i = 0; i < levels.length; i++) levels[i] = pixels[4 * i];
    view = { ...entry, levels, columns: canvas.width, lines: canvas.height };
    for (const layer of viewer.querySelectorAll(".layers canvas")) [layer.width, layer.height] = [view.columns, view.lines];
    at(".note").textContent = entry.step > 1 ? `map reduced to 1/${entry.step}: areas are upper limits` : "";
    [layers.style.width, layers.style.height] = [`${entry.width}px`, `${entry.height}px`];
    fit();
    update();
  };
  picture.src = entry.levels;
}

// Connected regions (8 neighbours) of the pixels above a level, by runs of each line.
function components({ levels, columns, lines }, level) {
  const parent = [], starts = [], ends = [], line = [];
  const root = (run) => { while (parent[run] !== run) run = parent[run] = parent[parent[run]]; return run; };
  for (let y = 0, above = 0, aboveEnd = 0; y < lines; y++) {
    const first = starts.length;
    for (let x = 0, i = y * columns; x < columns; x++, i++) {
      if (levels[i] <= level) continue;
      const start = x;
      while (x < columns && levels[i] > level) { x++; i++; }
      const run = starts.length;
      parent.push(run); starts.push(start); ends.push(x); line.push(y);
      while (above < aboveEnd && ends[above] < start) above++;
      for (let other = above; other < aboveEnd && starts[other] <= x; other++) {
        const [a, b] = [root(other), root(run)];
        parent[Math.max(a, b)] = Math.min(a, b);
      }
    }
    above = first;
    aboveEnd = starts.length;
  }
  const found = new Map();
  for (let run = 0; run < starts.length; run++) {
    const first = root(run), y = line[run];
    if (!found.has(first)) found.set(first, { area: 0, peak: 0, peakAt: [0, 0], x0: columns, y0: y, x1: 0, y1: 0, runs: [] });
    const region = found.get(first);
    region.area += ends[run] - starts[run];
    region.x0 = Math.min(region.x0, starts[run]);
    region.x1 = Math.max(region.x1, ends[run]);
    region.y1 = y + 1;
    region.runs.push([y, starts[run], ends[run]]);
    for (let x = starts[run]; x < ends[run]; x++) {
      const value = levels[y * columns + x];
      if (value > region.peak) { region.peak = value; region.peakAt = [x, y]; }
    }
  }
  return [...found.values()];
}

// As in the tables: listed is what lies beyond the largest or the strongest of good material, NG what lies beyond both.
function judged() {
  const limit = known.area_limits[slider.value], { step } = view;
  const listed = [];
  for (const region of components(view, known.thresholds[slider.value])) {
    const area = region.area * step * step;
    const beyond = (area > limit) + (region.peak > known.peak_limit);
    if (beyond && area >= known.min_area) {
      const box = [region.x0 * step, region.y0 * step, Math.min(region.x1 * step, view.width), Math.min(region.y1 * step, view.height)];
      listed.push({ ...region, area, box, beyond, verdict: VERDICTS[beyond] });
    }
  }
  return listed.sort((a, b) => b.beyond - a.beyond || b.peak - a.peak || b.area - a.area || a.y0 - b.y0 || a.x0 - b.x0);
}

function update() {
  view.regions = judged();
  view.owner = new Uint16Array(view.levels.length);  // number of the region of each pixel, 0 for none
  view.regions.forEach((region, i) => {
    for (const [y, start, end] of region.runs) view.owner.fill(i + 1, y * view.columns + start, y * view.columns + end);
  });
  const verdict = view.regions.length ? view.regions[0].verdict : "OK";
  at(".badge").className = `badge ${verdict}`;
  at(".badge").textContent = verdict;
  at("output.threshold").textContent = short(threshold());
  const share = known.false_alarms[slider.value];
  at(".promise").textContent = share === null ? "" : `${(100 * share).toPrecision(2)} % of held-out good pixels lie above it; largest region there ${known.area_limits[slider.value]} px`;
  drawHeat();
  drawOutlines();
  drawHistogram();
  listRegions();
  listMissed();
}

function drawHeat() {
  const [, colours] = known.colours[at("select.colours").selectedIndex];
  const palette = new Uint32Array(known.levels.length + 1), bytes = new Uint8ClampedArray(palette.buffer);
  for (let level = 0; level < palette.length; level++) {
    const low = known.levels[Math.max(level - 1, 0)], high = known.levels[Math.min(level, known.levels.length - 1)];
    const value = (level ? Math.sqrt(low * high) : 0) / threshold();
    const colour = colours[Math.min(Math.round(value / 2 * (colours.length - 1)), colours.length - 1)];
    bytes.set([...colour, 255 * Math.min(Math.max((value - FAINT) / (1 - FAINT), 0), 1)], 4 * level);
  }
  const picture = new ImageData(view.columns, view.lines), pixels = new Uint32Array(picture.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = palette[view.levels[i]];
  at(".heat").getContext("2d").putImageData(picture, 0, 0);
}

function drawOutlines() {
  const { columns, lines, owner } = view, picture = new ImageData(columns, lines);
  const width = Math.max(1, Math.round(Math.max(columns, lines) / 800));
  if (at(".outlines").checked) {
    view.regions.forEach((region, i) => {
      const colour = i + 1 === chosen ? [0, 200, 255, 255] : OUTLINES[region.verdict];
      const outside = (x, y) => x < 0 || y < 0 || x >= columns || y >= lines || owner[y * columns + x] !== i + 1;
      for (const [y, start, end] of region.runs) {
        for (let x = start; x < end; x++) {
          if (outside(x - width, y) || outside(x + width, y) || outside(x, y - width) || outside(x, y + width)) {
            picture.data.set(colour, 4 * (y * columns + x));
          }
        }
      }
    });
  }
  at(".outline").getContext("2d").putImageData(picture, 0, 0);
}

function drawHistogram() {
  const canvas = at(".histogram"), context = canvas.getContext("2d");
  const counts = new Array(known.levels.length + 1).fill(0);
  for (const level of view.levels) counts[level]++;
  const most = Math.log1p(Math.max(...counts)), wide = canvas.width / counts.length;
  context.clearRect(0, 0, canvas.width, canvas.height);
  counts.forEach((count, level) => {
    const height = canvas.height * Math.log1p(count) / most;
    context.fillStyle = level > known.thresholds[slider.value] ? "#d03030" : "#4a7fb5";
    context.fillRect(level * wide, canvas.height - height, wide - 0.5, height);
  });
  context.fillStyle = getComputedStyle(viewer).color;
  context.fillRect((known.thresholds[slider.value] + 1) * wide - 1, 0, 2, canvas.height);
}

function listRegions() {
  const wrong = correction().false_alarms;
  const scale = Number(row.dataset.umPerPx);  // 0 where it is not known
  at(".count").textContent = view.regions.length;
  at(".regions .area").textContent = scale ? "Area µm²" : "Area px";
  at(".regions tbody").replaceChildren(...view.regions.map((region, i) => {
    const line = document.createElement("tr");
    const area = scale ? short(region.area * scale * scale) : region.area;
    for (const text of [i + 1, region.verdict, area, `> ${short(known.levels[region.peak - 1])}`]) line.insertCell().textContent = text;
    line.cells[2].className = line.cells[3].className = "number";
    const box = document.createElement("input");
    box.type = "checkbox";
    box.title = "false alarm";
    box.checked = wrong.some((mark) => ownerAt(mark.peak_at) === i + 1);
    box.addEventListener("change", () => markWrong(i + 1, box.checked));
    line.insertCell().append(box);
    line.classList.toggle("chosen", i + 1 === chosen);
    line.classList.toggle("wrong", box.checked);
    line.addEventListener("click", (event) => { if (event.target !== box) choose(i + 1, true); });
    return line;
  }));
}

const ownerAt = ([x, y]) => view.owner[Math.floor(y / view.step) * view.columns + Math.floor(x / view.step)];

function choose(number, closer) {
  chosen = number;
  if (closer && number) {
    const [x0, y0, x1, y1] = view.regions[number - 1].box;
    const room = Math.min(stage.clientWidth / (x1 - x0), stage.clientHeight / (y1 - y0)) / 4;
    zoomTo(Math.min(Math.max(room, place.scale), 8), (x0 + x1) / 2, (y0 + y1) / 2);
  }
  drawOutlines();
  listRegions();
}

function keep(change) {
  corrections[row.dataset.image] = { ...correction(), width: view.width, height: view.height, ...change };
  try { localStorage.setItem(STORED, JSON.stringify(corrections)); } catch { /* kept until the page is left */ }
  at(".saved").textContent = "not saved yet";
  listRegions();
  listMissed();
}

function markWrong(number, wrong) {
  const others = correction().false_alarms.filter((mark) => ownerAt(mark.peak_at) !== number);
  const { box, area, peakAt } = view.regions[number - 1];
  const raw_threshold = known.raw[0] + threshold() * (known.raw[1] - known.raw[0]);
  const mark = { box, area_px: area, peak_at: peakAt.map((at) => at * view.step), threshold: threshold(), raw_threshold };
  keep({ false_alarms: wrong ? [...others, mark] : others });
}

function listMissed() {
  const { missed } = correction();
  at(".missed").replaceChildren(...missed.map(({ box }, i) => {
    const item = document.createElement("li"), remove = document.createElement("button");
    item.textContent = `x ${box[0]}–${box[2]}, y ${box[1]}–${box[3]} `;
    remove.type = "button";
    remove.textContent = "remove";
    remove.addEventListener("click", () => keep({ missed: missed.filter((_, other) => other !== i) }));
    item.append(remove);
    return item;
  }));
  at(".marks").replaceChildren(...missed.map(({ box }) => boxed(box)));
}

function boxed([x0, y0, x1, y1]) {
  const box = document.createElement("div");
  Object.assign(box.style, { left: `${x0}px`, top: `${y0}px`, width: `${x1 - x0}px`, height: `${y1 - y0}px`, outlineWidth: `${2 / place.scale}px` });
  return box;
}

function save() {
  const images = Object.entries(corrections).filter(([, one]) => one.false_alarms.length || one.missed.length);
  const document_ = { format: "inspect-gan-corrections-1", run: known.run, images: images.map(([image, one]) => ({ image, ...one })) };
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(document_, null, 1)], { type: "application/json" }));
  link.download = "corrections.json";
  link.click();
  URL.revokeObjectURL(link.href);
  at(".saved").textContent = `${images.length} images in corrections.json`;
}

function show() {
  layers.style.transform = `translate(${place.x}px, ${place.y}px) scale(${place.scale})`;
  layers.classList.toggle("near", place.scale > 2);
  for (const box of at(".marks").children) box.style.outlineWidth = `${2 / place.scale}px`;
}

function fit() {
  const scale = Math.min(stage.clientWidth / view.width, stage.clientHeight / view.height) || 1;
  zoomTo(scale, view.width / 2, view.height / 2);
}

// x, y px of the image that come to the middle of the stage.
function zoomTo(scale, x, y) {
  place = { scale, x: stage.clientWidth / 2 - x * scale, y: stage.clientHeight / 2 - y * scale };
  show();
}

// x, y px of the stage that stay where they are.
function zoomBy(factor, x, y) {
  const scale = Math.min(Math.max(place.scale * factor, 0.01), 40), change = scale / place.scale;
  place = { scale, x: x - (x - place.x) * change, y: y - (y - place.y) * change };
  show();
}

const zoomCentre = (factor) => zoomBy(factor, stage.clientWidth / 2, stage.clientHeight / 2);

function pan(x, y) {
  place = { ...place, x: place.x + x, y: place.y + y };
  show();
}

// px of the image under a pointer, within it.
function under(event) {
  const box = stage.getBoundingClientRect();
  const inside = (value, end) => Math.min(Math.max(Math.round(value), 0), end);
  return [
    inside((event.clientX - box.left - place.x) / place.scale, view.width),
    inside((event.clientY - box.top - place.y) / place.scale, view.height),
  ];
}

function step(by) {
  const all = openable(), next = all[all.indexOf(row) + by];
  if (next) open(next);
}

function moveThreshold(value) {
  slider.value = value;
  chosen = 0;
  update();
}

const doing = {
  previous: () => step(-1),
  next: () => step(1),
  close: () => viewer.close(),
  calibrated: () => moveThreshold(known.calibrated),
  save,
};
const keys = {
  p: doing.previous, n: doing.next, c: doing.calibrated,
  m: () => at("input.marking").click(),
  "[": () => moveThreshold(Number(slider.value) - 1), "]": () => moveThreshold(Number(slider.value) + 1),
  "+": () => zoomCentre(1.25), "-": () => zoomCentre(0.8), 0: fit,
};
const arrows = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };

if (known) {
  slider.max = known.thresholds.length - 1;
  slider.value = at("datalist option").value = known.calibrated;
  at("select.colours").append(...known.colours.map(([name]) => new Option(name)));
  slider.addEventListener("input", () => moveThreshold(slider.value));
  at(".opacity").addEventListener("input", (event) => { at(".heat").style.opacity = event.target.value; });
  at(".heat").style.opacity = at(".opacity").value;
  at("select.colours").addEventListener("change", drawHeat);
  at(".outlines").addEventListener("change", drawOutlines);
  at("input.marking").addEventListener("change", (event) => stage.classList.toggle("marking", event.target.checked));
  at(".histogram").addEventListener("click", (event) => {
    const level = Math.floor(event.offsetX / event.target.clientWidth * (known.levels.length + 1)) - 1;
    const nearest = known.thresholds.findIndex((one) => one >= level);
    moveThreshold(nearest < 0 ? known.thresholds.length - 1 : nearest);
  });
  viewer.addEventListener("click", (event) => { if (event.target.dataset.do) doing[event.target.dataset.do](); });
  viewer.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !view) return;
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
    if (arrows[event.key] && event.target === stage) { event.preventDefault(); pan(...arrows[event.key]); }
  });
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = stage.getBoundingClientRect();
    zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2, event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  stage.addEventListener("dblclick", () => fit());
  let drag = null;
  stage.addEventListener("pointerdown", (event) => {
    if (!view) return;
    stage.setPointerCapture(event.pointerId);
    drag = { from: under(event), moved: 0, frame: null };
  });
  stage.addEventListener("pointermove", (event) => {
    if (!drag) return;
    drag.moved += Math.abs(event.movementX) + Math.abs(event.movementY);
    if (!at("input.marking").checked) return pan(event.movementX, event.movementY);
    if (drag.frame) drag.frame.remove();
    drag.frame = boxed(between(drag.from, under(event)));
    at(".marks").append(drag.frame);
  });
  stage.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const { from, moved } = drag, to = under(event), box = between(from, to);
    drag = null;
    if (at("input.marking").checked) {
      if (box[2] > box[0] && box[3] > box[1]) keep({ missed: [...correction().missed, { box }] });
      else listMissed();
    } else if (moved < 4) {
      choose(ownerAt([Math.min(to[0], view.width - 1), Math.min(to[1], view.height - 1)]), false);
    }
  });
  body.addEventListener("click", (event) => {
    const opener = event.target.closest(".open");
    if (opener) { event.preventDefault(); open(opener.closest("tr")); }
  });
}

function between([x0, y0], [x1, y1]) {
  return [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
}
