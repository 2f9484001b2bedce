// The part that Node and the browser share: networks in turns, one session at a time, one thread.

/**
 * @param ort      the module onnxruntime-web
 * @param plan     {side, rounds, warm_ups, repeats, models: [name]}
 * @param fetched  by name: the ONNX file, a Uint8Array
 * @param image    Float32Array [1, 3, side, side], RGB in [0, 1]
 * @returns by name: {ms: [per round [per call]], logits: Float32Array}
 */
export async function inTurns(ort, plan, fetched, image) {
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  const found = Object.fromEntries(plan.models.map((name) => [name, { ms: [], logits: null }]));
  for (let round = 0; round < plan.rounds; round++) {
    for (const name of plan.models) {
      const session = await ort.InferenceSession.create(fetched[name], { executionProviders: ["wasm"] });
      const input = { image: new ort.Tensor("float32", image, [1, 3, plan.side, plan.side]) };
      const turn = [];
      for (let call = 0; call < plan.warm_ups + plan.repeats; call++) {
        const start = performance.now();
        const { logits } = await session.run(input);
        if (call >= plan.warm_ups) turn.push(performance.now() - start);
        found[name].logits = Float32Array.from(logits.data);
      }
      found[name].ms.push(turn);
      await session.release();
    }
  }
  return found;
}
