// What happens on the page: each event changes the state (state.js), and the view (view.js) shows it.

import * as form from "./form.js";
import * as server from "./server.js";
import { advance, finished, newDrawing, state, stoppedWords } from "./state.js";
import { render } from "./view.js";

const $ = (id) => document.getElementById(id);
let giveUp = null; // an AbortController while there is a drawing

function change(changes) {
  Object.assign(state, changes);
  render(state);
}

async function watchServer() {
  if (!state.model && !state.guarded) await loadModel().catch(meet);
  const problem = await server.notReady();
  change({ problem });
  setTimeout(watchServer, problem === null && (state.model || state.guarded) ? 15000 : 1000);
}

/** A server that cannot be asked yet is told of by its readiness; one that asks for a key is given a field for it. */
function meet({ field }) {
  if (field !== "key") return;
  change({ guarded: true });
  $("key").focus();
}

async function loadModel() {
  const model = await server.loadModel(form.key());
  if (!state.model) form.offer(model);
  change({ model, refusal: null });
}

async function draw() {
  if (state.drawing) return;
  giveUp = new AbortController();
  change({ drawing: newDrawing($("prompt").value), stopped: null, refusal: null });
  reveal($("figure"), "start");
  try {
    if (!state.model) await loadModel();
    for await (const event of server.generate(form.request(state.model), form.key(), giveUp.signal)) {
      if (event.type === "image_generation.completed") finish(event);
      else change({ drawing: advance(state.drawing, event) });
    }
  } catch (problem) {
    if (problem.name === "AbortError") change({ stopped: stoppedWords(state.drawing), drawing: null });
    else refuse(problem);
  }
  const left = [document.body, $("stop")]; // where the focus is when its button was disabled, or is hidden now
  if (left.includes(document.activeElement)) $("draw").focus({ preventScroll: true });
}

function finish(event) {
  const watched = inSight($("strip"));
  change({ shown: finished(state.drawing, event), drawing: null });
  if (watched) reveal($("after"), "nearest");
}

/** Say what was refused, and lead to the field that it is about, or to the words. */
function refuse({ message, field }) {
  change({ drawing: null, refusal: { words: message, field }, guarded: state.guarded || field === "key" });
  const input = field && $("form").elements.namedItem(field);
  if (!input) return reveal($("refusal"), "center");
  if ($("more").contains(input)) $("more").open = true;
  input.focus();
}

/** Scroll to what is not all in sight: on a phone the picture is below the form. */
function reveal(element, block) {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (!inSight(element)) element.scrollIntoView({ block, behavior: still ? "auto" : "smooth" });
}

function inSight(element) {
  const { top, bottom } = element.getBoundingClientRect();
  return top >= 0 && bottom <= innerHeight;
}

$("form").addEventListener("submit", (event) => { event.preventDefault(); draw(); });
$("form").addEventListener("input", ({ target }) => { if (target.id === state.refusal?.field) change({ refusal: null }); });
$("form").addEventListener("invalid", ({ target }) => { if ($("more").contains(target)) $("more").open = true; }, true);
$("prompt").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit(); });
$("stop").addEventListener("click", () => giveUp.abort());
$("method").addEventListener("change", () => { change({ refusal: null }); form.offerSettings(state.model); });
$("mask").addEventListener("change", () => change({ masked: $("mask").checked }));
$("again").addEventListener("click", () => { $("seed").value = state.shown.seed; $("seed").focus(); });
$("key").addEventListener("change", () => loadModel().catch(refuse));
render(state);
watchServer();
