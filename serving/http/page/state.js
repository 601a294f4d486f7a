// What the page knows. Everything that is seen follows from it (view.js), so that words, buttons and picture are always
// those of one picture: `drawing` while there is one, else `shown`.

export const state = {
  problem: "connecting", // why pictures cannot be had; null when they can
  model: null, // what the server offers; null until it says so
  drawing: null, // the picture under way, a Drawing
  shown: null, // the last finished picture
  masked: false, // whether `shown` is seen with its refined region
  stopped: null, // the words of the last drawing, if it was stopped
  refusal: null, // { words, field }: what the server refused last, and the field that it is about, or null
  guarded: false, // whether the server has asked for a key
};

export const newDrawing = (prompt) => ({ prompt, step: 0, steps: 0, stage: null, stages: [], preview: null });

/** The drawing after an event of its stream. */
export function advance(drawing, event) {
  const { step, steps, stage } = event;
  if (event.type === "image_generation.partial_image") return { ...drawing, preview: { source: source(event), step, steps } };
  if (event.type !== "image_generation.progress") return drawing;
  const stages = [...drawing.stages];
  if (step) stages[step - 1] = stage;
  return { ...drawing, step, steps, stage, stages };
}

/** The finished picture of a drawing and its last event. */
export function finished(drawing, event) {
  return {
    prompt: drawing.prompt, steps: drawing.steps, stages: drawing.stages,
    source: source(event), mask: event.mask_b64_json ? "data:image/png;base64," + event.mask_b64_json : null,
    seed: event.seed, size: event.size, format: event.output_format, timing: event.timing,
  };
}

export const stoppedWords = ({ step, steps }) => (step ? `Stopped after step ${step} of ${steps}.` : "Stopped before the first step.");

const source = (event) => `data:image/${event.output_format};base64,${event.b64_json}`;
