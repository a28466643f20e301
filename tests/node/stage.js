// The real server and the stub provider, as processes, for the official SDKs to talk to.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { dirname, join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..')
const PROGRAM = join(resolve(process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target')), 'debug', 'stage')

export const LLMS = ['openai', 'anthropic']
// What the stub answers, calls tools with, thinks, and makes of a schema.
export const TEXT = 'Grüße, 🦀 from the stub'
export const INPUTS = [{ city: 'Oslo' }, { city: 'Rome', unit: '°C' }]
export const THOUGHT = 'Let me see: it is about weather.'
export const THINKING = [
  { type: 'thinking', thinking: THOUGHT, signature: 'c3R1Yi1zaWduYXR1cmU/+w==' },
  { type: 'redacted_thinking', data: 'c3R1Yi1oaWRkZW4=' },
]
export const CITY = { city: 'Oslo', people: 700000 }
export const PNG = 'iVBORw0KGgo='

/** Starts everything; says where it is, and with which tokens it is used. */
export async function start() {
  const child = spawn(PROGRAM, { stdio: ['pipe', 'pipe', 'inherit'] })
  const line = once(createInterface(child.stdout), 'line').then(([line]) => JSON.parse(line))
  const ended = once(child, 'exit')
  const stage = await Promise.race([line, ended.then(([code]) => assert.fail(`${PROGRAM} ended with ${code}`))])
  const shown = async (what) => (await fetch(`${stage.stub}/stub/${what}`)).json()
  return {
    ...stage,
    /** What the stub was asked, oldest first. */
    received: () => shown('received'),
    /** The last that the stub was asked. */
    last: async () => (await shown('received')).at(-1),
    /** How many callers have left before their answer's end. */
    hungUp: () => shown('hung-up'),
    /** At the end the server must end well, and have shown no secret. */
    async end() {
      child.stdin.end()
      const [code] = await ended
      assert.equal(code, 0, 'the server did not end well, or showed a secret: see above')
    },
  }
}

/** Waits for what must become true. */
export async function eventually(what, condition) {
  const deadline = Date.now() + 10_000
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `not in 10 s: ${what}`)
    await new Promise((done) => setTimeout(done, 10))
  }
}

/** Everything a stream gives. */
export async function collect(stream) {
  const all = []
  for await (const piece of stream) all.push(piece)
  return all
}

/** Asserts that `call` is rejected with an error of this class and status, and gives the error. */
export async function rejected(call, type, status) {
  const error = await Promise.resolve()
    .then(call)
    .then(
      () => assert.fail(`no ${type.name}`),
      (error) => error,
    )
  assert.ok(error instanceof type, `${error?.constructor?.name} instead of ${type.name}: ${error}`)
  assert.equal(error.status, status, String(error))
  return error
}
