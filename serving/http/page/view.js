// Shows the state (state.js): each function sets a part of the page from it, whatever the page showed before.

const $ = (id) => document.getElementById(id);
const STAGES = {
  large: "Large stage: the large model draws all of it",
  hybrid: "Hybrid stage: the large model where it is hard, the small one elsewhere",
  small: "Small stage: the small model draws all of it",
};
const WAITING = "Waiting for its turn";
const EMPTY = "The picture appears here: the large model begins, both continue where it matters, the small one finishes.";

export function render(state) {
  showServer(state);
  showForm(state);
  showNote(state);
  if (state.drawing) showDrawing(state.drawing);
  else if (state.shown) showFinished(state.shown, state.masked);
  else showNothing();
}

function showServer({ problem, model, refusal, guarded }) {
  const refused = refusal?.field === "key", locked = refused || (guarded && !model);
  $("server").className = refused ? "refused" : problem === null && !locked ? "ready" : "";
  setText("server", refused ? refusal.words : locked ? "The server asks for a key." : problem ?? `${model?.id ?? "The server"} is ready`);
}

function showForm({ drawing, refusal, guarded }) {
  $("draw").disabled = drawing !== null;
  $("key-field").hidden = !guarded;
  showRefusal(refusal);
}

/** The words stand below the field that they are about, else above the button. */
function showRefusal(refusal) {
  const words = $("refusal"), refused = refusal?.field && $("form").elements.namedItem(refusal.field);
  for (const field of $("form").elements) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-errormessage");
  }
  refused?.setAttribute("aria-invalid", "true");
  refused?.setAttribute("aria-errormessage", "refusal");
  if (refused && refused.nextElementSibling !== words) refused.after(words);
  if (!refused && $("draw").previousElementSibling !== words) $("draw").before(words);
  words.hidden = refusal === null;
  setText("refusal", refusal?.words ?? "");
}

function showNote({ drawing, shown, stopped }) {
  const kept = drawing === null && stopped !== null;
  $("note").hidden = !kept;
  setText("note", kept ? stopped + (shown ? " This is the picture before it." : "") : "");
  setText("said", drawing ? stageWords(drawing) : kept ? stopped : shown ? `Done in ${shown.timing.total.toFixed(2)} seconds.` : "");
}

function showDrawing(drawing) {
  const { prompt, step, steps, stages, preview } = drawing;
  $("frame").className = "frame busy";
  showImage(preview?.source, preview && `Unfinished picture, step ${preview.step} of ${preview.steps}: ${prompt}`, `No preview yet of “${prompt}”`);
  $("picture").className = preview && preview.step < preview.steps / 2 ? "early" : "";
  showWay(stageWords(drawing), steps ? `step ${step} of ${steps}` : "", steps, stages);
  $("stop").hidden = false;
  $("after").hidden = $("times").hidden = true;
}

function showFinished(picture, masked) {
  const { prompt, steps, stages, timing, size, seed, format, source, mask } = picture;
  $("frame").className = "frame";
  if (masked && mask) showImage(mask, `${prompt}, with what the large model refined outlined and the rest darkened`);
  else showImage(source, prompt);
  $("picture").className = "";
  showWay(`Done in ${timing.total.toFixed(2)} s`, `${size}, seed ${seed}`, steps, stages);
  $("stop").hidden = true;
  $("mask-label").hidden = !mask;
  $("after").hidden = false;
  Object.assign($("save"), { href: source, download: `picture-seed${seed}.${format}` });
  showTimes(timing);
}

function showNothing() {
  $("frame").className = "frame";
  showImage(undefined, "", EMPTY);
  $("way").hidden = $("after").hidden = $("times").hidden = true;
}

function showImage(source, alt, empty = "") {
  const picture = $("picture");
  picture.hidden = !source;
  picture.alt = alt ?? "";
  if (!source) picture.removeAttribute("src");
  else if (picture.src !== source) picture.src = source;
  $("empty").hidden = Boolean(source);
  setText("empty", empty);
}

function showWay(stage, step, steps, stages) {
  const strip = $("strip");
  $("way").hidden = false;
  setText("stage", stage);
  setText("step", step);
  strip.style.gap = steps > 120 ? "0" : "2px";
  while (strip.children.length > steps) strip.lastChild.remove();
  while (strip.children.length < steps) strip.append(document.createElement("i"));
  for (const [number, cell] of [...strip.children].entries()) cell.className = stages[number] ?? "";
  strip.setAttribute("aria-valuemax", steps);
  strip.setAttribute("aria-valuenow", stages.length);
}

function showTimes({ waiting, stages, decode, total }) {
  const parts = Object.entries(stages).map(([name, { steps, seconds }]) => [`${name} stage`, steps + (steps === 1 ? " step" : " steps"), seconds, name]);
  const rows = [["waiting", "", waiting, "other"], ...parts, ["decode", "", decode, "other"]];
  $("times").tBodies[0].replaceChildren(...rows.map((row) => timesRow(row, total)));
  $("times").hidden = false;
}

function timesRow([name, steps, seconds, kind], total) {
  const row = document.createElement("tr"), head = document.createElement("th"), bar = document.createElement("i");
  Object.assign(head, { scope: "row", textContent: name });
  bar.className = kind;
  bar.style.width = (100 * seconds) / total + "%";
  const cells = [steps, seconds.toFixed(2) + " s", ""].map((text) => Object.assign(document.createElement("td"), { textContent: text }));
  cells[2].append(bar);
  row.append(head, ...cells);
  return row;
}

const stageWords = ({ stage }) => STAGES[stage] ?? WAITING;

/** Sets words only where they differ: a screen reader reads what is set. */
function setText(id, words) {
  if ($(id).textContent !== words) $(id).textContent = words;
}
