import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Circuit, circuitState, closed, failed, mayAsk, probing, unprobed } from './circuit.ts'

const policy = { failures: 3, baseMs: 1_000, maxMs: 8_000 }

function fail(circuit: Circuit, times: number, random = () => 1): Circuit {
  let now = circuit
  for (let count = 0; count < times; count += 1) now = failed(now, false, 100, random, policy)
  return now
}

describe('the circuit of a host', () => {
  it('opens after so many failures in a row, for a time drawn from 0 to the back-off', () => {
    expect(circuitState(fail(closed, 2))).toBe('closed')
    expect(mayAsk(fail(closed, 2), 100, policy)).toBe('anyone')
    const open = fail(closed, 3, () => 0.25)
    expect(circuitState(open)).toBe('open')
    expect(open).toMatchObject({ failures: 3, openUntil: 350, failingSince: 100 })
    expect(mayAsk(open, 349, policy)).toEqual({ until: 350 })
    expect(mayAsk(open, 350, policy)).toBe('probe')
  })

  it('lets one probe out at a time, and doubles the back-off with each that fails, up to the longest', () => {
    let circuit = fail(closed, 3)
    const drawn: number[] = []
    for (let probe = 0; probe < 6; probe += 1) {
      const now = circuit.openUntil
      drawn.push(now)
      expect(mayAsk(circuit, now, policy)).toBe('probe')
      circuit = probing(circuit)
      expect(circuitState(circuit)).toBe('half-open')
      expect(mayAsk(circuit, now, policy)).toHaveProperty('until')
      circuit = failed(circuit, true, now, () => 1, policy)
    }
    expect(drawn.slice(1).map((at, index) => at - drawn[index]!)).toEqual([2_000, 4_000, 8_000, 8_000, 8_000])
  })

  it('takes failures of what was sent before it opened for nothing new', () => {
    const open = fail(closed, 3)
    expect(failed(open, false, 5_000, () => 1, policy)).toBe(open)
  })

  it('lets the next be the probe when one ended with no verdict', () => {
    const open = fail(closed, 3)
    expect(mayAsk(unprobed(probing(open)), open.openUntil, policy)).toBe('probe')
  })

  it('whatever happens: never two probes at once, never asked before its time, and never shut for good', () => {
    const steps = fc.array(
      fc.record({
        wait: fc.integer({ min: 0, max: 20_000 }),
        outcome: fc.constantFrom('answered', 'failed', 'none', 'pending'),
        random: fc.double({ min: 0, max: 0.999_999, noNaN: true }),
      }),
      { maxLength: 80 },
    )
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 5 }), (given, failures) => {
        const rules = { failures, baseMs: 1_000, maxMs: 8_000 }
        let circuit = closed
        let [now, row] = [0, 0]
        let probePending = false
        for (const { wait, outcome, random } of given) {
          now += wait
          const may = mayAsk(circuit, now, rules)
          if (typeof may === 'object') {
            expect(may.until).toBeGreaterThan(now)
            expect(may.until).toBeLessThanOrEqual(now + rules.maxMs)
            if (!probePending) continue
          } else if (may === 'probe') {
            expect(probePending).toBe(false)
            expect(now).toBeGreaterThanOrEqual(circuit.openUntil)
            circuit = probing(circuit)
          }
          const probe: boolean = may === 'probe' || probePending
          if (outcome === 'pending') {
            probePending = probe
            continue
          }
          probePending = false
          if (outcome === 'answered') {
            circuit = closed
            row = 0
          } else if (outcome === 'none') circuit = unprobed(circuit)
          else {
            circuit = failed(circuit, probe, now, () => random, rules)
            row += 1
            expect(circuitState(circuit)).toBe(row >= failures ? 'open' : 'closed')
          }
        }
        expect(mayAsk(unprobed(circuit), now + rules.maxMs, rules)).not.toHaveProperty('until')
      }),
    )
  })
})
