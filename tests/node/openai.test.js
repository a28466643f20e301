// OpenAI's own SDK, with nothing changed but its base URL and its key.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import OpenAI from 'openai'
import { zodResponseFormat, zodTextFormat } from 'openai/helpers/zod'
import { z } from 'zod'

import { CITY, INPUTS, LLMS, PNG, TEXT, THINKING, THOUGHT, collect, eventually, rejected, start } from './stage.js'

const MESSAGES = [{ role: 'user', content: 'Hello' }]
const City = z.object({ city: z.string(), people: z.number() })
const WEATHER = {
  type: 'function',
  function: {
    name: 'weather',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
}

let stage
before(async () => {
  stage = await start()
})
after(() => stage.end())

/** With an Llm, a client that is bound to it: there the stub does what a model's name asks for. */
function connect({ llm, token = stage.runner, maxRetries = 0 } = {}) {
  const path = llm ? `/api/v1/llms/${llm}` : ''
  return new OpenAI({ baseURL: `${stage.server}${path}/v1`, apiKey: token, maxRetries, timeout: 30_000 })
}

/** The first choice, streamed or not. */
async function ask(options, streamed) {
  const completions = connect().chat.completions
  const whole = streamed ? completions.stream(options).finalChatCompletion() : completions.create(options)
  return (await whole).choices[0]
}

for (const llm of LLMS) {
  test(`${llm}: a plain call`, async () => {
    const answer = await connect().chat.completions.create({ model: llm, messages: MESSAGES, temperature: 0.5 })
    assert.equal(answer.object, 'chat.completion')
    assert.equal(answer.model, `${llm}-model`)
    assert.equal(answer.choices[0].message.content, TEXT)
    assert.equal(answer.choices[0].finish_reason, 'stop')
    const { prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details } = answer.usage
    assert.deepEqual([prompt_tokens, completion_tokens, total_tokens], [9, 5, 14])
    assert.equal(prompt_tokens_details.cached_tokens, 2)
    const sent = await stage.last()
    assert.equal(sent.body.model, `${llm}-model`)
    assert.equal(sent.body.temperature, 0.5)
    assert.ok(JSON.stringify(sent.headers).includes(stage.keys[llm]))
    assert.ok(!JSON.stringify(sent).includes(stage.runner))
  })

  test(`${llm}: a streamed call`, async () => {
    const options = { model: llm, messages: MESSAGES, stream: true, stream_options: { include_usage: true } }
    const chunks = await collect(await connect().chat.completions.create(options))
    const said = chunks.flatMap((chunk) => chunk.choices)
    assert.equal(said.map((choice) => choice.delta.content ?? '').join(''), TEXT)
    assert.deepEqual(said.map((choice) => choice.finish_reason).filter(Boolean), ['stop'])
    assert.equal(new Set(chunks.map(({ id, created, model }) => `${id} ${created} ${model}`)).size, 1)
    assert.deepEqual(chunks.at(-1).choices, [])
    assert.equal(chunks.at(-1).usage.total_tokens, 14)
  })

  test(`${llm}: usage that nobody asked for is not streamed`, async () => {
    const options = { model: llm, messages: MESSAGES, stream: true }
    const chunks = await collect(await connect().chat.completions.create(options))
    assert.ok(chunks.every((chunk) => chunk.choices.length === 1 && !chunk.usage))
  })

  for (const streamed of [false, true]) {
    const how = streamed ? 'streamed' : 'plain'

    test(`${llm}: two parallel calls and their results, ${how}`, async () => {
      const choice = await ask({ model: llm, messages: MESSAGES, tools: [WEATHER] }, streamed)
      assert.equal(choice.finish_reason, 'tool_calls')
      const calls = choice.message.tool_calls
      assert.deepEqual(calls.map((call) => call.function.name), ['weather', 'weather'])
      assert.deepEqual(calls.map((call) => JSON.parse(call.function.arguments)), INPUTS)
      const results = calls.map(({ id }) => ({ role: 'tool', tool_call_id: id, content: `sunny for ${id}` }))
      const messages = [...MESSAGES, choice.message, ...results]
      const final = await ask({ model: llm, messages, tools: [WEATHER] }, streamed)
      assert.equal(final.message.content, TEXT)
      const sent = (await stage.last()).body.messages
      const ids = calls.map((call) => call.id)
      if (llm === 'anthropic') {
        assert.equal(sent.length, 3)
        assert.deepEqual(sent[1].content.map((block) => block.input), INPUTS)
        assert.deepEqual(sent[2].content.map((block) => block.tool_use_id), ids)
      } else {
        assert.deepEqual(sent.slice(2).map((message) => message.tool_call_id), ids)
      }
    })

    test(`${llm}: structured output, ${how}`, async () => {
      const options = { model: llm, messages: MESSAGES, response_format: zodResponseFormat(City, 'city') }
      const completions = connect().chat.completions
      const answer = await (streamed ? completions.stream(options).finalChatCompletion() : completions.parse(options))
      assert.deepEqual(answer.choices[0].message.parsed, CITY)
      const { body } = await stage.last()
      const schema = llm === 'anthropic' ? body.output_config.format.schema : body.response_format.json_schema.schema
      assert.deepEqual(schema.required, ['city', 'people'])
    })
  }

  test(`${llm}: tools run by the SDK's own runner`, async () => {
    const said = []
    const weather = ({ city }) => {
      said.push(city)
      return `sunny in ${city}`
    }
    const tool = { ...WEATHER, function: { ...WEATHER.function, function: weather, parse: JSON.parse } }
    const runner = connect().chat.completions.runTools({ model: llm, messages: MESSAGES, tools: [tool] })
    assert.equal(await runner.finalContent(), TEXT)
    assert.deepEqual(said, ['Oslo', 'Rome'])
  })

  test(`${llm}: an image`, async () => {
    const url = `data:image/png;base64,${PNG}`
    const content = [
      { type: 'text', text: 'What is it?' },
      { type: 'image_url', image_url: { url } },
    ]
    await ask({ model: llm, messages: [{ role: 'user', content }] })
    const source = { type: 'base64', media_type: 'image/png', data: PNG }
    const expected = llm === 'anthropic' ? { type: 'image', source } : content[1]
    assert.deepEqual((await stage.last()).body.messages[0].content[1], expected)
  })

  test(`${llm}: responses, plain, streamed and parsed`, async () => {
    const { responses } = connect()
    const answer = await responses.create({ model: llm, input: 'Hello', instructions: 'Be brief.' })
    assert.deepEqual([answer.output_text, answer.status, answer.usage.output_tokens], [TEXT, 'completed', 5])
    const events = await collect(await responses.create({ model: llm, input: 'Hello', stream: true }))
    const said = events.filter((event) => event.type === 'response.output_text.delta')
    assert.equal(said.map((event) => event.delta).join(''), TEXT)
    assert.equal(events.at(-1).type, 'response.completed')
    const text = { format: zodTextFormat(City, 'city') }
    const parsed = await responses.parse({ model: llm, input: 'Hello', text })
    assert.deepEqual(parsed.output_parsed, CITY)
  })

  for (const [fault, type, status] of [
    ['status-400', OpenAI.BadRequestError, 400],
    ['status-401', OpenAI.InternalServerError, 502],
    ['status-403', OpenAI.InternalServerError, 502],
    ['status-404', OpenAI.NotFoundError, 404],
    ['status-422', OpenAI.UnprocessableEntityError, 422],
    ['status-429', OpenAI.RateLimitError, 429],
    ['status-500', OpenAI.InternalServerError, 500],
    ['status-502', OpenAI.InternalServerError, 502],
    ['html', OpenAI.InternalServerError, 502],
  ]) {
    test(`${llm}: the class of the provider's ${fault}`, async () => {
      for (const stream of [false, true]) {
        const options = { model: `fault-${fault}`, messages: MESSAGES, stream }
        const error = await rejected(() => connect({ llm }).chat.completions.create(options), type, status)
        assert.ok(error.error.message, 'a message')
        assert.ok(!JSON.stringify(error.error).includes(stage.keys[llm]))
      }
    })
  }

  for (const fault of ['reset', 'truncated', 'no-finish', 'error-frame']) {
    test(`${llm}: a stream that ends in ${fault} is an error`, async () => {
      const options = { model: `fault-${fault}`, messages: MESSAGES, stream: true }
      const said = []
      await assert.rejects(async () => {
        for await (const chunk of await connect({ llm }).chat.completions.create(options)) {
          said.push(chunk.choices[0]?.delta.content ?? '')
        }
      }, OpenAI.APIError)
      assert.equal(said.join(''), TEXT)
    })
  }

  test(`${llm}: 429 is tried again after the time it names`, async () => {
    const [before, began] = [(await stage.received()).length, performance.now()]
    const options = { model: 'retried-fault-busy', messages: MESSAGES }
    const answer = await connect({ llm, maxRetries: 1 }).chat.completions.create(options)
    assert.equal(answer.choices[0].message.content, TEXT)
    // The SDK's own first wait is half a second at most.
    assert.ok(performance.now() - began >= 1000)
    assert.equal((await stage.received()).length, before + 2)
  })

  test(`${llm}: leaving in the middle of a stream closes the provider's connection`, async () => {
    const [before, controller, bound] = [await stage.hungUp(), new AbortController(), connect({ llm })]
    const options = { model: 'fault-endless', messages: MESSAGES, stream: true }
    const stream = await bound.chat.completions.create(options, { signal: controller.signal })
    let chunks = 0
    for await (const _ of stream) {
      chunks += 1
      if (chunks === 3) controller.abort()
    }
    assert.ok(chunks >= 3)
    await eventually('the provider sees it', async () => (await stage.hungUp()) === before + 1)
    const next = await bound.chat.completions.create({ model: 'good', messages: MESSAGES })
    assert.equal(next.choices[0].message.content, TEXT)
  })

  test(`${llm}: leaving before the answer closes the provider's connection`, async () => {
    const [before, seen, controller] = [await stage.hungUp(), (await stage.received()).length, new AbortController()]
    const options = { model: 'fault-silent', messages: MESSAGES }
    const call = connect({ llm }).chat.completions.create(options, { signal: controller.signal })
    const refused = assert.rejects(call, OpenAI.APIUserAbortError)
    await eventually('the provider is asked', async () => (await stage.received()).length > seen)
    controller.abort()
    await refused
    await eventually('the provider sees it', async () => (await stage.hungUp()) === before + 1)
  })
}

for (const streamed of [false, true]) {
  test(`signed thinking comes and is sent back, ${streamed ? 'streamed' : 'plain'}`, async () => {
    const options = { model: 'anthropic', reasoning_effort: 'low', max_completion_tokens: 4096, tools: [WEATHER] }
    const { message } = await ask({ ...options, messages: MESSAGES }, streamed)
    // The SDK keeps of a streamed field that it does not know the last piece alone.
    assert.ok(streamed ? THOUGHT.endsWith(message.reasoning_content) : message.reasoning_content === THOUGHT)
    assert.deepEqual(message.thinking_blocks, THINKING)
    const results = message.tool_calls.map(({ id }) => ({ role: 'tool', tool_call_id: id, content: 'sunny' }))
    const final = await ask({ ...options, messages: [...MESSAGES, message, ...results] }, streamed)
    assert.equal(final.message.content, TEXT)
    const { body } = await stage.last()
    assert.deepEqual(body.messages[1].content.slice(0, 2), THINKING)
    assert.deepEqual(body.thinking, { type: 'enabled', budget_tokens: 1024 })
  })
}

test('tools of a translated response', async () => {
  const tool = { type: 'function', strict: false, ...WEATHER.function }
  const { responses } = connect()
  const answer = await responses.create({ model: 'anthropic', input: 'Hello', tools: [tool] })
  const calls = answer.output.filter((item) => item.type === 'function_call')
  assert.deepEqual(calls.map((call) => JSON.parse(call.arguments)), INPUTS)
  const results = calls.map(({ call_id }) => ({ type: 'function_call_output', call_id, output: 'sunny' }))
  const input = [{ role: 'user', content: 'Hello' }, ...answer.output, ...results]
  assert.equal((await responses.create({ model: 'anthropic', input, tools: [tool] })).output_text, TEXT)
})

test('embeddings and completions', async () => {
  const client = connect()
  const answer = await client.embeddings.create({ model: 'openai', input: ['a', 'b'], encoding_format: 'float' })
  assert.deepEqual(answer.data.map((item) => item.embedding), [[0.5, -0.25], [0.5, -0.25]])
  const none = () => client.embeddings.create({ model: 'anthropic', input: 'a' })
  await rejected(none, OpenAI.InternalServerError, 501)
  assert.equal((await client.completions.create({ model: 'openai', prompt: 'a' })).choices[0].text, TEXT)
})

test('models are the Llms that may be run', async () => {
  const models = await collect(connect().models.list())
  assert.deepEqual(models.map((model) => model.id), ['anthropic', 'openai', 'refusing', 'vllm'])
  assert.equal((await connect().models.retrieve('openai')).id, 'openai')
  await rejected(() => connect().models.retrieve('nowhere'), OpenAI.NotFoundError, 404)
})

test('our own errors have their classes', async () => {
  for (const stream of [false, true]) {
    const call = (model, options = {}, messages = MESSAGES) =>
      connect(options).chat.completions.create({ model, messages, stream })
    await rejected(() => call('openai', { token: 'not-a-token' }), OpenAI.AuthenticationError, 401)
    const denied = await rejected(() => call('openai', { token: stage.editor }), OpenAI.PermissionDeniedError, 403)
    assert.match(denied.message, /run:llms:openai/)
    assert.match((await rejected(() => call('nowhere'), OpenAI.NotFoundError, 404)).message, /nowhere/)
    const bad = await rejected(() => call('openai', {}, []), OpenAI.BadRequestError, 400)
    assert.match(bad.message, /messages is required/)
    const refused = await rejected(() => call('refusing'), OpenAI.InternalServerError, 502)
    assert.match(refused.message, /refusing/)
  }
  await rejected(() => connect({ token: 'not-a-token' }).models.list(), OpenAI.AuthenticationError, 401)
})
