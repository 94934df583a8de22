// Publishes events as the official SDK for JavaScript spells them, each in both modes and in one
// batch, and prints what the service answered.
const { CloudEvent, HTTP } = require("cloudevents");

const about = { type: "logins", source: "/javascript", subject: "a b", time: "2026-01-31T12:00:00Z" };
const contents = [
  { data: { user: "ada", numbers: [1, 2.5, null] } },
  { datacontenttype: "application/json", data: [true] },
  { datacontenttype: "text/plain", data: "h\u00e9llo \u20ac" },
  { datacontenttype: "application/xml", data: "<a>\u00e9</a>" },
  { datacontenttype: "application/octet-stream", data: new Uint8Array([0, 255]) },
  { extension: 7, flag: true },
];
const events = contents.map((content, id) => new CloudEvent({ ...about, id: String(id), ...content }));

async function send({ headers, body }) {
  const response = await fetch(process.argv[2] + "/publish", { method: "POST", headers, body });
  return response.json();
}

async function main() {
  const answers = [];
  for (const event of events) {
    answers.push(await send(HTTP.structured(event)), await send(HTTP.binary(event)));
  }
  const headers = { "Content-Type": "application/cloudevents-batch+json" };
  answers.push(await send({ headers, body: JSON.stringify(events) }));
  console.log(JSON.stringify(answers.map((answer) => answer.results.map((result) => result.status))));
}

main();
