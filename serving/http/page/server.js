// What the page asks of its server. Whatever goes wrong is a Refusal: its words, and the field of the form it is about.

export class Refusal extends Error {
  constructor(words, field = null) {
    super(words);
    this.field = field;
  }
}

/** The pair that is served: its sizes, methods and settings. */
export async function loadModel(key) {
  return (await (await ask("v1/models", { headers: headers(key) })).json()).data[0];
}

/** null when pictures can be had, else why not. */
export async function notReady() {
  try {
    await ask("ready", {});
    return null;
  } catch (refusal) {
    return refusal.message;
  }
}

/** The events of one picture, until it is completed. body: what the API reads; signal: gives the picture up. */
export async function* generate(body, key, signal) {
  const answer = await send(body, key, signal);
  for await (const event of events(answer.body)) {
    if (event.error) throw new Refusal(event.error.message, event.error.param);
    yield event;
    if (event.type === "image_generation.completed") return;
  }
  throw new Refusal("The server ended its answer before the picture was done. Draw it again.");
}

async function send(body, key, signal) {
  const options = { method: "POST", headers: headers(key), signal };
  try {
    return await ask("v1/images/generations", { ...options, body: JSON.stringify(body) });
  } catch (refusal) {
    if (refusal.field !== "include_mask") throw refusal;
    const { include_mask: _, ...rest } = body; // these steps have no hybrid stage
    return await ask("v1/images/generations", { ...options, body: JSON.stringify(rest) });
  }
}

async function ask(address, options) {
  const answer = await lost(fetch(address, options));
  if (answer.ok) return answer;
  if (answer.status === 401) {
    const sent = options.headers.Authorization;
    throw new Refusal(sent ? "The server refuses this key. Type another." : "The server asks for a key.", "key");
  }
  const { error } = await answer.json().catch(() => ({})); // a proxy answers in its own form
  throw new Refusal(error?.message ?? `The server answers with status ${answer.status}.`, error?.param);
}

function headers(key) {
  return { "Content-Type": "application/json", ...(key && { Authorization: "Bearer " + key }) };
}

/** What a promise of the network gives; where the network fails, the browser's words differ, and say little. */
function lost(promise) {
  return promise.catch((problem) => {
    throw problem.name === "AbortError" ? problem : new Refusal("The server does not answer.");
  });
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await lost(reader.read());
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").find((line) => line.startsWith("data: "));
      if (data) yield JSON.parse(data.slice(6));
    }
  }
}
