// Plays the conversation with Vercel's AI SDK, whose history goes through JSON between turns.
// Arguments: the base URL, and the path of conversation.json.

import { readFileSync } from "node:fs";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

const [baseURL, path] = process.argv.slice(2);
const conversation = JSON.parse(readFileSync(path, "utf8"));
const model = createOpenAI({ baseURL, apiKey: "sk-real-clients" }).chat(conversation.model);

const [more, times] = conversation.details;
const resultOf = (name, { city }) =>
  conversation.results[[name, city].filter(Boolean).join(" ")] + more.repeat(times);
const tools = Object.fromEntries(
  conversation.tools.map(({ name, description, parameters }) => [
    name,
    tool({ description, inputSchema: jsonSchema(parameters), execute: async (input) => resultOf(name, input) }),
  ]),
);

let messages = [];
for (const [number, { text, image }] of conversation.turns.entries()) {
  messages.push({ role: "user", content: image ? [{ type: "text", text }, { type: "image", image }] : text });
  const asked = { model, system: conversation.system, messages, tools, stopWhen: stepCountIs(5), maxRetries: 0 };
  let response;
  if (number % 2) {
    const result = streamText({ ...asked, onError: ({ error }) => { throw error; } });
    await result.consumeStream();
    response = await result.response;
  } else {
    response = (await generateText(asked)).response;
  }
  messages = JSON.parse(JSON.stringify([...messages, ...response.messages]));
}
