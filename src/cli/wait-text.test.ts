import { expect, it } from 'vitest'
import { waitText } from './wait-text.ts'

const until = '2026-03-28T12:00:00.000Z'
it.each([
  [{ kind: 'timer', until }, `the time ${until}`],
  [{ kind: 'sensor', every: '10s', until }, `sensor until ${until}`],
  [{ kind: 'sleep', name: 'cool-down', until }, `sleep cool-down until ${until}`],
  [{ kind: 'workflow' }, 'workflow'],
  [{ kind: 'approval', shown: { title: 'Go?' }, deadline: null }, 'an answer to "Go?"'],
  [{ kind: 'approval', shown: { title: 'Go?' }, deadline: until }, `an answer to "Go?" until ${until}`],
])('%j is told as %s', (wait, text) => {
  expect(waitText(wait)).toBe(text)
})
