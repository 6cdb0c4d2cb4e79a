// What OpenAI's own client makes of the server at the socket argv[2]. Prints "pass NAME" or
// "fail NAME: why" for each check.
const http = require("node:http");
const { Readable } = require("node:stream");
const { OpenAI } = require("../data/openai/openai.cjs");

// The transport, which is all that a client of a Unix socket has to bring: fetch over one.
const agent = new http.Agent({ keepAlive: true });
function fetch(url, init) {
    const { pathname, search } = new URL(url);
    return new Promise((resolve, reject) => {
        const request = http.request({
            agent,
            socketPath: process.argv[2],
            path: pathname + search,
            method: init.method,
            headers: Object.fromEntries(new Headers(init.headers)),
            signal: init.signal,
        }, (answer) => {
            const headers = Object.entries(answer.headers).flatMap(([name, value]) =>
                [value].flat().map((one) => [name, one]));
            resolve(new Response(Readable.toWeb(answer), { status: answer.statusCode, headers }));
        });
        request.on("error", reject);
        request.end(init.body);
    });
}
const client = new OpenAI({
    baseURL: "http://volley/v1",
    apiKey: "none",
    maxRetries: 0,
    fetch,
});
const story = { model: "stories15M", prompt: "Once upon a time", max_tokens: 12, temperature: 0 };
const chat = { model: "any", messages: [{ role: "user", content: "Hello" }], max_tokens: 8, seed: 3 };

function expect(truth, what) {
    if (!truth) throw new Error(`expected ${what}`);
}

const checks = {
    async "models.list"() {
        const names = [];
        for await (const model of await client.models.list()) names.push(model.id);
        expect(names.length === 1, `one model, got ${names}`);
        const model = await client.models.retrieve(names[0]);
        expect(model.object === "model", "a model");
    },
    async "completions.create: whole and streamed"() {
        const whole = await client.completions.create(story);
        expect(whole.object === "text_completion" && whole.id.startsWith("cmpl-"), "a completion");
        expect(whole.usage.completion_tokens === 12, "12 tokens");
        let text = "", last;
        for await (const chunk of await client.completions.create({ ...story, stream: true })) {
            text += chunk.choices[0].text;
            last = chunk.choices[0].finish_reason;
        }
        expect(text === whole.choices[0].text, `'${whole.choices[0].text}', got '${text}'`);
        expect(last === "length", "length");
    },
    async "chat.completions.create: whole"() {
        const whole = await client.chat.completions.create(chat);
        expect(whole.choices[0].message.role === "assistant", "an assistant");
        expect(typeof whole.choices[0].message.content === "string", "a string");
        expect(whole._request_id && whole.id.endsWith(whole._request_id), "a request's id");
    },
    async "chat.completions.create: streamed, with usage"() {
        const whole = await client.chat.completions.create(chat);
        let text = "", usage;
        const stream = await client.chat.completions.create({
            ...chat, stream: true, stream_options: { include_usage: true } });
        for await (const chunk of stream) {
            text += chunk.choices[0]?.delta?.content ?? "";
            usage = chunk.usage ?? usage;
        }
        expect(text === whole.choices[0].message.content, "the same text");
        expect(usage.total_tokens === whole.usage.total_tokens, "the same usage");
    },
    async "chat.completions.stream: the helper that gathers"() {
        const stream = client.chat.completions.stream({ ...chat, logprobs: true, top_logprobs: 2 });
        const end = await stream.finalChatCompletion();
        expect(end.choices[0].logprobs.content.length > 0, "log-probabilities");
        expect(end.choices[0].message.content.length > 0, "a text");
    },
    async "errors are the client's own"() {
        const error = await client.chat.completions.create({ ...chat, temperature: 3 })
            .catch((e) => e);
        expect(error instanceof OpenAI.BadRequestError, `a BadRequestError, got ${error}`);
        expect(error.param === "temperature" && error.status === 400, "the field's name");
    },
    async "a stream that is left"() {
        const stream = await client.chat.completions.create({
            ...chat, max_tokens: 200, stream: true });
        for await (const chunk of stream) if (chunk) break;
        stream.controller.abort();
    },
    async "many at once"() {
        const all = await Promise.all(Array.from({ length: 16 }, () => client.completions.create(story)));
        expect(new Set(all.map((one) => one.choices[0].text)).size === 1, "one text");
        expect(new Set(all.map((one) => one.id)).size === 16, "16 ids");
    },
};

(async () => {
    for (const [name, check] of Object.entries(checks)) {
        try {
            await check();
            console.log(`pass ${name}`);
        } catch (error) {
            console.log(`fail ${name}: ${error.message}`);
        }
    }
    agent.destroy();
})();
