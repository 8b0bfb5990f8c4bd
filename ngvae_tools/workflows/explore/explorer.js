// The explorer's page. Whatever comes from files is shown as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";
const LARGE_STEP = 5;
const REACH = 24; // pixels around the pointer in which a point is found
const MARGIN = 18;
const CLASSES = ["#2f74d0", "#c65f14", "#1f8f63", "#b0459a", "#86781c", "#7668d8", "#c8414f", "#3f8aa6"];

const token = document.querySelector("meta[name=token]").content;
const byId = (id) => document.getElementById(id);

/** Ask the server; throws an Error whose message is a sentence for the reader. */
async function ask(question, body = {}) {
  let answer;
  try {
    answer = await fetch(`api/${question}`, {
      method: "POST",
      headers: { "X-Ngvae-Token": token },
      body: body instanceof Blob ? body : JSON.stringify(body),
    });
  } catch {
    throw new Error("There is no answer: the explorer has ended. Start ngvae-tools explore again.");
  }
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Error(said.error ?? `The explorer answered with status ${answer.status}.`);
  }
  return answer;
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function shape(name, attributes = {}) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** A number with as many decimals as a change by `step` can be seen with. */
function number(value, step) {
  const decimals = Math.min(Math.max(1 - Math.floor(Math.log10(step)), 0), 12);
  const text = value.toFixed(decimals);
  return Number(text) === 0 ? (0).toFixed(decimals) : text;
}

function say(text, isError = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("error", isError);
}

/** One slider for each latent dimension; `z` holds all latents, whether a slider can show them or not. */
class Sliders {
  constructor(about, onMove) {
    this.z = about.start.slice();
    this.start = about.start;
    this.onMove = onMove;
    this.rows = about.sliders.map((slider) => this.row(slider));
    const others = this.rows.filter((row) => !row.slider.informative);
    for (const row of this.rows) byId(row.slider.informative ? "informative" : "uninformative").append(row.box);
    byId("noise").hidden = !about.sliders.some((slider) => slider.noise);
    byId("others").hidden = others.length === 0;
    byId("others-title").textContent =
      others.length === 1 ? "1 dimension that is not informative" : `${others.length} dimensions that are not informative`;
    if (others.length === this.rows.length) {
      byId("informative").append(element("p", {}, "No dimension is informative."));
      byId("others").open = true;
    }
    this.show();
  }

  row(slider) {
    const id = `z${slider.dimension}`;
    const label = element("label", { for: id }, `z ${slider.dimension}`);
    if (slider.information !== null) {
      const nats = Math.max(slider.information, 0).toFixed(2);
      label.append(element("span", { title: "Information about the image" }, `${nats} nats`));
    }
    const input = element("input", { id, type: "range", min: slider.low, max: slider.high, step: "any" });
    const value = element("output", { for: id });
    const low = element("span");
    const high = element("span");
    const step = `step ${number(slider.step, slider.step)}`;
    const box = element("div", { class: "slider" }, label, value, input);
    box.append(element("div", { class: "ends" }, low, element("span", {}, step), high));
    const row = { slider, input, value, low, high, box };
    input.addEventListener("input", () => this.move(row, input.valueAsNumber));
    input.addEventListener("keydown", (event) => {
      const to = this.afterKey(row, event);
      if (to === undefined) return;
      event.preventDefault();
      this.move(row, to);
    });
    return row;
  }

  /** Where a key moves a slider; undefined for keys that do not. */
  afterKey({ slider, input }, event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return undefined;
    const [low, high, now] = [Number(input.min), Number(input.max), this.z[slider.dimension]];
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: LARGE_STEP, PageDown: -LARGE_STEP };
    if (event.key === "Home") return low;
    if (event.key === "End") return high;
    return event.key in steps ? Math.min(Math.max(now + steps[event.key] * slider.step, low), high) : undefined;
  }

  move(row, value) {
    this.z[row.slider.dimension] = value;
    this.showRow(row);
    this.onMove();
  }

  set(z) {
    this.z = z.slice();
    this.show();
  }

  show() {
    for (const row of this.rows) this.showRow(row);
  }

  showRow({ slider, input, value, low, high }) {
    const now = this.z[slider.dimension];
    // An image may lie beyond where the slider went so far.
    input.min = Math.min(slider.low, now);
    input.max = Math.max(slider.high, now);
    input.value = now;
    const text = number(now, slider.step);
    value.textContent = text;
    input.setAttribute("aria-valuetext", text);
    low.textContent = number(Number(input.min), slider.step);
    high.textContent = number(Number(input.max), slider.step);
  }
}

/** A sample of the images as points; a ring marks the chosen image, a cross where the sliders are. */
class Atlas {
  constructor(about, onChoose) {
    this.map = about.map;
    this.kept = about.kept;
    this.onChoose = onChoose;
    this.svg = byId("map");
    this.cursor = null; // index of the point that the keyboard or the pointer is at
    this.chosen = null;
    this.here = null;
    const share = (part) => `${Math.round(100 * part)} %`;
    const count = this.map.rows.length;
    const [across, up] = this.map.explained;
    byId("atlas-about").textContent =
      `${count < about.images ? `${count.toLocaleString("en")} of ` : ""}${about.images.toLocaleString("en")} images ` +
      `by their kept latents, each in units of ${this.map.units}, on the plane in which these vary most (PCA): ` +
      `${share(across)} of their variance across, ${share(up)} upwards.`;
    this.circles = this.map.places.map(() => this.svg.appendChild(shape("circle", { r: 3.5 })));
    // Twice each: a broad outline in the colour of the page keeps marks in sight above the points.
    this.marks = Object.fromEntries(
      ["chosen", "here"].map((name) => [name, [0, 1].map(() => this.svg.appendChild(shape("path", { class: name })))])
    );
    this.ring = this.svg.appendChild(shape("circle", { class: "cursor", r: 7, visibility: "hidden" }));
    this.colours();
    this.svg.addEventListener("pointermove", (event) => this.point(this.near(event), true));
    this.svg.addEventListener("pointerleave", () => this.ring.classList.remove("hover"));
    this.svg.addEventListener("click", (event) => this.choose(this.near(event)));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.layOut()).observe(this.svg);
    byId("atlas").hidden = false;
    this.layOut();
  }

  layOut() {
    const { clientWidth: width, clientHeight: height } = this.svg;
    if (!width || !height) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const ends = [0, 1].map((axis) => {
      const values = this.map.places.map((place) => place[axis]);
      return [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
    });
    const [[left, right], [bottom, top]] = ends;
    // One scale for both axes, so that distances can be compared.
    // One along which nothing varies leaves it to the other.
    const room = [[width, right - left], [height, top - bottom]].filter(([, spread]) => spread > 0);
    const scale = Math.min(...(room.length ? room.map(([side, spread]) => (side - 2 * MARGIN) / spread) : [1]));
    this.onScreen = ([x, y]) => [
      width / 2 + scale * (x - (left + right) / 2),
      height / 2 - scale * (y - (bottom + top) / 2),
    ];
    this.screen = this.map.places.map(this.onScreen);
    this.screen.forEach(([x, y], index) => {
      this.circles[index].setAttribute("cx", x.toFixed(1));
      this.circles[index].setAttribute("cy", y.toFixed(1));
    });
    this.point(this.cursor, false);
    this.mark("chosen", this.chosen);
    this.mark("here", this.here);
  }

  /** Move a mark to a place of the map; one beyond its edge stays at the edge. */
  mark(name, place) {
    this[name] = place;
    let line = "";
    if (place !== null && this.onScreen) {
      const [width, height] = [this.svg.clientWidth, this.svg.clientHeight];
      const [right, down] = this.onScreen(place);
      const x = Math.min(Math.max(right, 9), width - 9).toFixed(1);
      const y = Math.min(Math.max(down, 9), height - 9).toFixed(1);
      line = name === "here" ? `M${x} ${y}m-8 0h16m-8-8v16` : `M${x} ${y}m-9 0a9 9 0 1 0 18 0a9 9 0 1 0-18 0`;
    }
    for (const path of this.marks[name]) path.setAttribute("d", line);
  }

  /** Show where all latents z lie. */
  showLatents(z) {
    const { centre, axes } = this.map;
    const place = [0, 0];
    this.kept.forEach((dimension, column) => {
      for (const axis of [0, 1]) place[axis] += (z[dimension] - centre[column]) * axes[column][axis];
    });
    this.mark("here", place);
  }

  near(event) {
    const box = this.svg.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left - this.svg.clientLeft, event.clientY - box.top - this.svg.clientTop];
    let [found, least] = [null, REACH];
    this.screen.forEach(([a, b], index) => {
      const distance = Math.hypot(a - x, b - y);
      if (distance <= least) [found, least] = [index, distance];
    });
    return found;
  }

  point(index, hover) {
    this.ring.classList.toggle("hover", hover && index !== null);
    if (index === null) return;
    this.cursor = index;
    const [x, y] = this.screen[index];
    this.ring.setAttribute("cx", x.toFixed(1));
    this.ring.setAttribute("cy", y.toFixed(1));
    this.ring.setAttribute("visibility", "visible");
    byId("pointed").textContent = this.map.names[index];
  }

  choose(index) {
    if (index === null) return;
    this.point(index, false);
    this.onChoose(this.map.rows[index]);
  }

  key(event) {
    const ways = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const enters = event.key === "Enter" || event.key === " ";
    if (event.altKey || event.ctrlKey || event.metaKey || !(enters || event.key in ways)) return;
    event.preventDefault();
    if (this.cursor === null) this.point(this.middle(), false);
    else if (enters) this.choose(this.cursor);
    else this.point(this.next(ways[event.key]), false);
  }

  middle() {
    const [x, y] = [this.svg.clientWidth / 2, this.svg.clientHeight / 2];
    const distances = this.screen.map(([a, b]) => Math.hypot(a - x, b - y));
    return distances.indexOf(distances.reduce((a, b) => Math.min(a, b)));
  }

  /** The nearest point that lies in a direction, within 45 degrees of it; the same one where there is none. */
  next([right, down]) {
    const [x, y] = this.screen[this.cursor];
    let [found, least] = [this.cursor, Infinity];
    this.screen.forEach(([a, b], index) => {
      const [along, aside] = [(a - x) * right + (b - y) * down, Math.abs((a - x) * down + (b - y) * right)];
      const distance = Math.hypot(along, aside);
      if (along > 0 && aside <= along && distance < least) [found, least] = [index, distance];
    });
    return found;
  }

  colours() {
    const choice = byId("colour");
    choice.append(element("option", { value: "" }, "none"));
    this.map.colourings.forEach(({ name }, index) => choice.append(element("option", { value: index }, name)));
    choice.addEventListener("change", () => {
      const colouring = choice.value === "" ? null : this.map.colourings[Number(choice.value)];
      const colours = colouring === null ? null : coloursOf(colouring);
      this.circles.forEach((circle, index) => {
        const value = colouring?.values[index];
        circle.classList.toggle("none", value === null);
        circle.style.fill = colours === null || value === null ? "" : colours.of(value);
        circle.style.fillOpacity = colours === null || value === null ? "" : 0.85;
      });
      byId("legend").replaceChildren(...(colours?.legend ?? []));
    });
  }
}

/** What colour a value has, and what says so. */
function coloursOf({ categorical, values, classes: names }) {
  const known = values.filter((value) => value !== null);
  const swatch = (colour, text) => {
    const icon = shape("svg", { width: 12, height: 12, "aria-hidden": "true" });
    const dot = icon.appendChild(shape("circle", { cx: 6, cy: 6, r: 5 }));
    dot.style.fill = colour;
    return element("span", {}, icon, text);
  };
  if (categorical) {
    const classes = [...new Set(known)].sort((a, b) => a - b);
    const of = (value) => CLASSES[classes.indexOf(value) % CLASSES.length];
    const legend = classes.slice(0, CLASSES.length).map((value) => swatch(of(value), names[value] ?? String(value)));
    if (classes.length > CLASSES.length) legend.push(`and ${classes.length - CLASSES.length} more, in the same colours`);
    return { of, legend };
  }
  if (!known.length) return { of: () => "", legend: ["no values"] };
  const [low, high] = [known.reduce((a, b) => Math.min(a, b)), known.reduce((a, b) => Math.max(a, b))];
  const half = high / 2 - low / 2; // the difference of huge numbers may be no number
  const of = (value) => {
    const share = half > 0 ? (value / 2 - low / 2) / half : 0.5;
    return share < 0.5
      ? `color-mix(in oklab, var(--middle) ${200 * share}%, var(--low))`
      : `color-mix(in oklab, var(--high) ${200 * share - 100}%, var(--middle))`;
  };
  const text = (value) => number(value, half / 10 || 0.05);
  return { of, legend: [low, low / 2 + high / 2, high].map((value) => swatch(of(value), text(value))) };
}

/** All together: what is chosen sets the sliders, what is moved is decoded. */
class Explorer {
  constructor(about) {
    this.about = about;
    this.choice = 0; // counts what was asked for: an answer to an earlier choice is dropped
    this.jumps = 0; // counts what set all sliders: an image of where they were before is dropped
    this.moves = 0;
    this.asking = false;
    this.of = ""; // the image that the sliders started from
    byId("headline").textContent = about.headline;
    byId("source").textContent = about.source;
    document.title = `${about.headline} - explorer`;
    byId("notes").append(...about.notes.map((note) => element("p", {}, note)));
    byId("main").hidden = false;
    this.sliders = new Sliders(about, () => this.moved());
    if (about.map !== null) this.atlas = new Atlas(about, (row) => this.showPoint({ row }));
    byId("reset").addEventListener("click", () => this.reset());
    byId("random").disabled = about.images === 0;
    byId("random").addEventListener("click", () => this.showPoint({ row: Math.floor(Math.random() * about.images) }));
    byId("find").addEventListener("submit", (event) => {
      event.preventDefault();
      this.showPoint({ id: byId("identifier").value });
    });
    if (about.encodes) this.takeImages();
    this.reset();
  }

  reset() {
    this.choice += 1;
    this.jumps += 1;
    this.of = "";
    this.sliders.set(this.about.start);
    this.atlas?.mark("chosen", null);
    byId("original-figure").hidden = true;
    say("All latents are at their mean.");
    this.decode();
  }

  moved() {
    // Not said aloud at every move; the slider itself tells its value.
    const text = this.of ? `Moved away from ${this.of}.` : "Moved away from the mean.";
    if (byId("status").textContent !== text) say(text);
    this.decode();
  }

  /** Decode where the sliders are: one question at a time, and then where they have gone meanwhile. */
  async decode() {
    this.moves += 1;
    this.atlas?.showLatents(this.sliders.z);
    if (this.asking) return;
    this.asking = true;
    let done = 0;
    try {
      while (done !== this.moves) {
        const jumps = this.jumps;
        done = this.moves;
        const image = await (await ask("decode", { z: this.sliders.z })).blob();
        if (jumps === this.jumps) this.showDecoded(URL.createObjectURL(image));
      }
    } catch (error) {
      say(error.message, true);
    } finally {
      this.asking = false;
    }
  }

  showDecoded(address) {
    const image = byId("decoded");
    if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
    image.src = address;
  }

  async showPoint(question) {
    await this.showAnswer(() => ask("point", question), "");
  }

  async encode(file) {
    if (file.size > this.about.imageBytes) {
      say(`${file.name} is larger than ${this.about.imageBytes / 2 ** 20} MiB, which is too large.`, true);
      return;
    }
    say(`Encoding ${file.name} ...`);
    await this.showAnswer(() => ask("encode", file), file.name);
  }

  /** Show an image of the latent file, or one that was encoded; `name` is that of the reader's own file. */
  async showAnswer(asked, name) {
    this.choice += 1;
    const choice = this.choice;
    try {
      const shown = await (await asked()).json();
      if (choice === this.choice) this.show(shown, name || shown.name);
    } catch (error) {
      if (choice === this.choice) say(name ? `${name}: ${error.message}` : error.message, true);
    }
  }

  show(shown, name) {
    this.jumps += 1;
    this.of = name;
    this.sliders.set(shown.z);
    this.atlas?.showLatents(shown.z);
    this.atlas?.mark("chosen", shown.place);
    this.showDecoded(shown.decoded);
    byId("decoded").alt = `What the decoder makes of ${name}`;
    byId("original-figure").hidden = shown.original === null;
    if (shown.original !== null) {
      byId("original").src = shown.original;
      byId("original").alt = `Original of ${name}`;
    }
    const error = shown.error === null ? "" : ` Mean squared error ${shown.error.toPrecision(2)}.`;
    say([`Shown: ${name}. The sliders are at its latents.${error}`, ...shown.notes].join(" "));
  }

  /** Encode images that are dropped on the page or chosen. */
  takeImages() {
    const [area, input] = [byId("drop"), byId("file")];
    area.hidden = false;
    input.addEventListener("change", () => {
      if (input.files.length) this.encode(input.files[0]);
      input.value = ""; // so that the same file can be chosen again
    });
    addEventListener("dragover", (event) => {
      if (!event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      area.classList.add("over");
    });
    addEventListener("dragleave", () => area.classList.remove("over"));
    addEventListener("drop", (event) => {
      event.preventDefault();
      area.classList.remove("over");
      if (event.dataTransfer.files.length) this.encode(event.dataTransfer.files[0]);
    });
  }
}

try {
  new Explorer(await (await ask("about")).json());
} catch (error) {
  document.querySelector("header").append(element("p", { class: "error", role: "alert" }, error.message));
}
