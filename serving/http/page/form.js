// The form: what the server offers becomes its fields, and its fields become a request.

const $ = (id) => document.getElementById(id);
const METHODS = {
  hybrid: "HybridStitch: large, then both, then small.", large: "The large model alone.", small: "The small model alone.",
  srdiffusion: "Large, then small.", "t-stitch": "Small, then large.",
};

export function offer(model) {
  for (const size of model.sizes) $("size").add(new Option(size, size, size === model.default_size, size === model.default_size));
  for (const name of Object.keys(model.methods)) $("method").add(new Option(name, name, false, name === model.default_method));
  $("negative_prompt").placeholder = model.negative_prompt || "nothing";
  offerSettings(model);
}

/** One field for each setting of the chosen method, from its schema: its type, range, default and help. */
export function offerSettings(model) {
  const method = $("method").value;
  $("method-hint").textContent = METHODS[method] ?? "";
  const presets = Object.entries(model.methods[method]);
  $("settings").replaceChildren(...presets.map(([name, preset]) => settingField(name, preset, model.settings[name])));
}

function settingField(name, preset, schema) {
  const field = document.createElement("div"), label = document.createElement("label"), hint = document.createElement("span");
  const input = schema.enum ? settingChoice(preset, schema) : settingInput(preset, schema);
  input.value = $(name)?.value ?? ""; // what was typed stays when the method changes
  label.htmlFor = input.id = name;
  label.textContent = name.replaceAll("_", " ");
  hint.className = "hint";
  hint.id = name + "-hint";
  hint.textContent = schema.description;
  input.setAttribute("aria-describedby", hint.id);
  field.append(label, input, hint);
  return field;
}

function settingChoice(preset, schema) {
  const select = document.createElement("select");
  select.add(new Option(preset + " (preset)", ""));
  for (const word of schema.enum) if (word !== preset) select.add(new Option(word, word));
  return select;
}

function settingInput(preset, schema) {
  const input = Object.assign(document.createElement("input"), { placeholder: preset, autocomplete: "off" });
  if (schema.anyOf) return Object.assign(input, { inputMode: "decimal" }); // a number or a word
  const { minimum = "", maximum = "", type } = schema;
  return Object.assign(input, { type: "number", min: minimum, max: maximum, step: type === "integer" ? 1 : "any" });
}

/** The request for one picture, as the fields are now. */
export function request(model) {
  const body = {
    prompt: $("prompt").value, size: $("size").value, method: $("method").value,
    stream: true, partial_images: 3, progress: true,
  };
  if ($("negative_prompt").value) body.negative_prompt = $("negative_prompt").value;
  if ($("seed").value !== "") body.seed = Number($("seed").value);
  for (const name of Object.keys(model.methods[body.method])) {
    const text = $(name).value.trim();
    if (text !== "") body[name] = Number.isNaN(Number(text)) ? text : Number(text);
  }
  if (body.method === "hybrid" && body.hybrid_steps !== 0) body.include_mask = true;
  return body;
}

export const key = () => $("key").value.trim();
