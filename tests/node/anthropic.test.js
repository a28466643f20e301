// Anthropic's own SDK, with nothing changed but its base URL and its key.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import Anthropic from '@anthropic-ai/sdk'
import { zodOutputFormat } from '@anthropic-ai/sdk/helpers/zod'
import { z } from 'zod'

import { CITY, INPUTS, LLMS, PNG, TEXT, THINKING, THOUGHT, collect, eventually, rejected, start } from './stage.js'

const MESSAGES = [{ role: 'user', content: 'Hello' }]
const City = z.object({ city: z.string(), people: z.number() })
const WEATHER = {
  name: 'weather',
  description: 'The weather in a city',
  input_schema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
}

let stage
before(async () => {
  stage = await start()
})
after(() => stage.end())

/** With an Llm, a client that is bound to it: there the stub does what a model's name asks for. */
function connect({ llm, token = stage.runner, maxRetries = 0, ...options } = {}) {
  const path = llm ? `/api/v1/llms/${llm}` : ''
  // The SDK sends `apiKey` in `x-api-key`.
  return new Anthropic({ baseURL: stage.server + path, apiKey: token, maxRetries, timeout: 30_000, ...options })
}

/** A whole message, streamed or not. */
async function ask(options, streamed) {
  const messages = connect().messages
  const all = { max_tokens: 50, messages: MESSAGES, ...options }
  return streamed ? messages.stream(all).finalMessage() : messages.create(all)
}

const text = (message) => message.content.map((block) => (block.type === 'text' ? block.text : '')).join('')
const uses = (message) => message.content.filter((block) => block.type === 'tool_use')
const results = (message) =>
  uses(message).map(({ id }) => ({ type: 'tool_result', tool_use_id: id, content: `sunny for ${id}` }))

for (const llm of LLMS) {
  test(`${llm}: a plain call`, async () => {
    const options = { system: 'Be brief.', stop_sequences: ['END'], temperature: 0.5 }
    const answer = await ask({ model: llm, ...options })
    assert.equal(text(answer), TEXT)
    assert.deepEqual([answer.role, answer.stop_reason, answer.model], ['assistant', 'end_turn', `${llm}-model`])
    const { input_tokens, cache_read_input_tokens, output_tokens } = answer.usage
    assert.deepEqual([input_tokens, cache_read_input_tokens, output_tokens], [llm === 'openai' ? 7 : 6, 2, 5])
    const sent = await stage.last()
    assert.equal(sent.body.temperature, 0.5)
    assert.ok(JSON.stringify(sent.headers).includes(stage.keys[llm]))
    assert.ok(!JSON.stringify(sent).includes(stage.runner))
  })

  test(`${llm}: a token in authorization`, async () => {
    const client = connect({ apiKey: null, authToken: stage.runner })
    assert.equal(text(await client.messages.create({ model: llm, max_tokens: 9, messages: MESSAGES })), TEXT)
  })

  test(`${llm}: a streamed call`, async () => {
    const options = { model: llm, max_tokens: 50, messages: MESSAGES, stream: true }
    const events = await collect(await connect().messages.create(options))
    const count = (type) => events.filter((event) => event.type === type).length
    assert.deepEqual(['message_start', 'message_delta', 'message_stop'].map(count), [1, 1, 1])
    assert.equal(events.map((event) => event.delta?.text ?? '').join(''), TEXT)
    const message = await ask({ model: llm }, true)
    assert.equal(text(message), TEXT)
    assert.deepEqual([message.stop_reason, message.usage.output_tokens], ['end_turn', 5])
    assert.equal(message.usage.input_tokens, llm === 'openai' ? 7 : 6)
  })

  for (const streamed of [false, true]) {
    const how = streamed ? 'streamed' : 'plain'

    test(`${llm}: two parallel calls and their results, ${how}`, async () => {
      const answer = await ask({ model: llm, tools: [WEATHER] }, streamed)
      assert.equal(answer.stop_reason, 'tool_use')
      assert.deepEqual(uses(answer).map((use) => use.name), ['weather', 'weather'])
      assert.deepEqual(uses(answer).map((use) => use.input), INPUTS)
      const { content } = answer
      const messages = [...MESSAGES, { role: 'assistant', content }, { role: 'user', content: results(answer) }]
      assert.equal(text(await ask({ model: llm, tools: [WEATHER], messages }, streamed)), TEXT)
      const sent = (await stage.last()).body.messages
      const ids = uses(answer).map((use) => use.id)
      if (llm === 'openai') {
        assert.deepEqual(sent.map((message) => message.role), ['user', 'assistant', 'tool', 'tool'])
        assert.deepEqual(sent.slice(2).map((message) => message.tool_call_id), ids)
      } else {
        assert.deepEqual(sent[2].content.map((block) => block.tool_use_id), ids)
      }
    })

    test(`${llm}: structured output, ${how}`, async () => {
      const options = { model: llm, max_tokens: 50, messages: MESSAGES }
      options.output_config = { format: zodOutputFormat(City) }
      const { messages } = connect()
      const answer = await (streamed ? messages.stream(options).finalMessage() : messages.parse(options))
      assert.deepEqual(answer.parsed_output, CITY)
    })
  }

  test(`${llm}: tools run by the SDK's own runner`, async () => {
    const said = []
    const run = ({ city }) => {
      said.push(city)
      return `sunny in ${city}`
    }
    const parse = (input) => input
    const options = { model: llm, max_tokens: 50, messages: MESSAGES, tools: [{ ...WEATHER, run, parse }] }
    assert.equal(text(await connect().beta.messages.toolRunner(options)), TEXT)
    assert.deepEqual(said, ['Oslo', 'Rome'])
  })

  test(`${llm}: an image`, async () => {
    const source = { type: 'base64', media_type: 'image/png', data: PNG }
    const content = [
      { type: 'text', text: 'What is it?' },
      { type: 'image', source },
    ]
    await ask({ model: llm, messages: [{ role: 'user', content }] })
    const url = `data:image/png;base64,${PNG}`
    const expected = llm === 'openai' ? { type: 'image_url', image_url: { url } } : content[1]
    assert.deepEqual((await stage.last()).body.messages[0].content[1], expected)
  })

  for (const [fault, type, status] of [
    ['status-400', Anthropic.BadRequestError, 400],
    ['status-401', Anthropic.InternalServerError, 502],
    ['status-403', Anthropic.InternalServerError, 502],
    ['status-404', Anthropic.NotFoundError, 404],
    ['status-422', Anthropic.UnprocessableEntityError, 422],
    ['status-429', Anthropic.RateLimitError, 429],
    ['status-500', Anthropic.InternalServerError, 500],
    ['status-502', Anthropic.InternalServerError, 502],
    ['status-529', Anthropic.InternalServerError, 503],
    ['html', Anthropic.InternalServerError, 502],
  ]) {
    test(`${llm}: the class of the provider's ${fault}`, async () => {
      for (const stream of [false, true]) {
        const options = { model: `fault-${fault}`, max_tokens: 9, messages: MESSAGES, stream }
        const { error } = await rejected(() => connect({ llm }).messages.create(options), type, status)
        assert.ok(error.type === 'error' && error.error.type && error.error.message, JSON.stringify(error))
        assert.ok(!JSON.stringify(error).includes(stage.keys[llm]))
      }
    })
  }

  for (const fault of ['reset', 'truncated', 'no-finish', 'error-frame']) {
    test(`${llm}: a stream that ends in ${fault} is an error`, async () => {
      const options = { model: `fault-${fault}`, max_tokens: 9, messages: MESSAGES }
      const said = []
      const stream = connect({ llm }).messages.stream(options).on('text', (piece) => said.push(piece))
      await assert.rejects(stream.finalMessage(), Anthropic.APIError)
      assert.equal(said.join(''), TEXT)
    })
  }

  test(`${llm}: 429 is tried again after the time it names`, async () => {
    const [before, began] = [(await stage.received()).length, performance.now()]
    const options = { model: 'retried-fault-busy', max_tokens: 9, messages: MESSAGES }
    assert.equal(text(await connect({ llm, maxRetries: 1 }).messages.create(options)), TEXT)
    // The SDK's own first wait is half a second at most.
    assert.ok(performance.now() - began >= 1000)
    assert.equal((await stage.received()).length, before + 2)
  })

  test(`${llm}: leaving in the middle of a stream closes the provider's connection`, async () => {
    const [before, bound] = [await stage.hungUp(), connect({ llm })]
    const stream = bound.messages.stream({ model: 'fault-endless', max_tokens: 9, messages: MESSAGES })
    stream.on('text', () => stream.abort())
    await assert.rejects(stream.finalMessage(), Anthropic.APIUserAbortError)
    await eventually('the provider sees it', async () => (await stage.hungUp()) === before + 1)
    const next = await bound.messages.create({ model: 'good', max_tokens: 9, messages: MESSAGES })
    assert.equal(text(next), TEXT)
  })

  test(`${llm}: leaving before the answer closes the provider's connection`, async () => {
    const [before, seen, controller] = [await stage.hungUp(), (await stage.received()).length, new AbortController()]
    const options = { model: 'fault-silent', max_tokens: 9, messages: MESSAGES }
    const call = connect({ llm }).messages.create(options, { signal: controller.signal })
    const refused = assert.rejects(call, Anthropic.APIUserAbortError)
    await eventually('the provider is asked', async () => (await stage.received()).length > seen)
    controller.abort()
    await refused
    await eventually('the provider sees it', async () => (await stage.hungUp()) === before + 1)
  })
}

for (const streamed of [false, true]) {
  const how = streamed ? 'streamed' : 'plain'
  const thinking = { type: 'enabled', budget_tokens: 1024 }

  /** A call of tools with thinking; the messages that bring the results. */
  async function think(model) {
    const answer = await ask({ model, max_tokens: 4096, thinking, tools: [WEATHER] }, streamed)
    assert.equal(answer.stop_reason, 'tool_use')
    const { content } = answer
    const messages = [...MESSAGES, { role: 'assistant', content }, { role: 'user', content: results(answer) }]
    const final = await ask({ model, max_tokens: 4096, thinking, tools: [WEATHER], messages }, streamed)
    assert.equal(text(final), TEXT)
    return { content, sent: (await stage.last()).body }
  }

  test(`signed thinking comes and is sent back, ${how}`, async () => {
    const { content, sent } = await think('anthropic')
    assert.deepEqual(content.slice(0, 2), THINKING)
    assert.deepEqual(sent.messages[1].content.slice(0, 2), THINKING)
  })

  test(`a server's reasoning comes as thinking and is sent back, ${how}`, async () => {
    const { content, sent } = await think('vllm')
    assert.deepEqual([content[0].type, content[0].thinking], ['thinking', THOUGHT])
    assert.equal(sent.reasoning_effort, 'low')
    assert.equal(sent.messages[1].reasoning_content, THOUGHT)
  })

  test(`reasoning that OpenAI does not take back is left out, ${how}`, async () => {
    const { content, sent } = await think('openai')
    assert.equal(content[0].thinking, THOUGHT)
    assert.ok(!JSON.stringify(sent.messages).includes(THOUGHT))
  })
}

test('tokens are counted where the provider can', async () => {
  const count = (model) => connect().messages.countTokens({ model, messages: MESSAGES })
  assert.equal((await count('anthropic')).input_tokens, 12)
  const error = await rejected(() => count('openai'), Anthropic.InternalServerError, 501)
  assert.match(error.message, /not supported by provider type openai/)
})

test('our own errors have their classes', async () => {
  for (const stream of [false, true]) {
    const call = (model, options = {}, messages = MESSAGES) =>
      connect(options).messages.create({ model, max_tokens: 9, messages, stream })
    await rejected(() => call('openai', { token: 'not-a-token' }), Anthropic.AuthenticationError, 401)
    const denied = await rejected(() => call('openai', { token: stage.editor }), Anthropic.PermissionDeniedError, 403)
    assert.match(denied.message, /run:llms:openai/)
    assert.match((await rejected(() => call('nowhere'), Anthropic.NotFoundError, 404)).message, /nowhere/)
    const bad = await rejected(() => call('openai', {}, []), Anthropic.BadRequestError, 400)
    assert.match(bad.message, /messages is required/)
    const refused = await rejected(() => call('refusing'), Anthropic.InternalServerError, 502)
    assert.match(refused.message, /refusing/)
  }
})
