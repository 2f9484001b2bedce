// node run.mjs FOLDER: what ../web.py asks for in FOLDER/plan.json, run by onnxruntime-web in Node.
//
// Reads FOLDER/NAME.onnx and FOLDER/image.f32; writes FOLDER/NAME.logits.f32 and FOLDER/times.json.
// node run.mjs FOLDER --probe: which of FOLDER/*.onnx can be opened at all → FOLDER/opened.json

import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as ort from "onnxruntime-web";
import { inTurns } from "./turns.mjs";

const [folder, mode] = process.argv.slice(2);
ort.env.wasm.numThreads = 1;
ort.env.logLevel = "fatal";

if (mode === "--probe") {
  const opened = [];
  for (const file of (await readdir(folder)).filter((name) => name.endsWith(".onnx"))) {
    try {
      const session = await ort.InferenceSession.create(await readFile(join(folder, file)));
      await session.release();
      opened.push(file);
    } catch {
      // "Could not find an implementation": that is what is asked for
    }
  }
  await writeFile(join(folder, "opened.json"), JSON.stringify(opened));
} else {
  const plan = JSON.parse(await readFile(join(folder, "plan.json"), "utf-8"));
  const bytes = await readFile(join(folder, "image.f32"));
  const image = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  const fetched = {};
  for (const name of plan.models) fetched[name] = new Uint8Array(await readFile(join(folder, `${name}.onnx`)));
  const found = await inTurns(ort, plan, fetched, image);
  for (const name of plan.models) {
    await writeFile(join(folder, `${name}.logits.f32`), new Uint8Array(found[name].logits.buffer));
  }
  const times = Object.fromEntries(plan.models.map((name) => [name, found[name].ms]));
  await writeFile(join(folder, "times.json"), JSON.stringify({ engine: `Node ${process.version}`, times }));
}
