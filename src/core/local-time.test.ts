import { describe, expect, it } from 'vitest'
import { localTime } from './local-time.ts'

const hour = 3_600_000

describe('localTime', () => {
  it('gives stretches that join without a gap and change where the clocks do', () => {
    const paris = localTime('Europe/Paris')
    const change = Date.UTC(2026, 2, 29, 1)
    expect(paris.stretchAt(change - 1)).toEqual({ start: Date.UTC(2026, 2, 29), end: change, offset: hour })
    expect(paris.stretchAt(change)).toEqual({ start: change, end: Date.UTC(2026, 2, 30), offset: 2 * hour })
    expect(paris.stretchAt(Date.UTC(2026, 2, 30))).toMatchObject({ start: Date.UTC(2026, 2, 30), offset: 2 * hour })
  })

  it('knows offsets of minutes and seconds, before the epoch too', () => {
    expect(localTime('Asia/Kathmandu').stretchAt(0).offset).toBe(5.5 * hour)
    expect(localTime('Asia/Kathmandu').stretchAt(1e12).offset).toBe(5.75 * hour)
    expect(localTime('Africa/Monrovia').stretchAt(-1).offset).toBe(-(44 * 60 + 30) * 1000)
    expect(localTime('UTC').stretchAt(0)).toEqual({ start: 0, end: 24 * hour, offset: 0 })
  })

  it('gives the same answers after more days than it keeps', () => {
    const zone = localTime('America/New_York')
    const offsets = () => [0, 90, 180, 270].map((day) => zone.stretchAt(day * 24 * hour).offset)
    const before = offsets()
    for (let day = 0; day < 2_100; day += 1) zone.stretchAt(Date.UTC(2001) + day * 24 * hour)
    expect(offsets()).toEqual(before)
  })

  it.each([
    ['Europe/Pariss', 'did you mean "Europe/Paris"?'],
    ['europe/berlni', 'did you mean "Europe/Berlin"?'],
    ['Paris', 'did you mean "Europe/Paris"?'],
    ['new york', 'did you mean "America/New_York"?'],
    ['UTCC', 'did you mean "UTC"?'],
    ['', 'write an IANA name such as Europe/Paris, or UTC'],
    ['no such place at all', 'write an IANA name such as Europe/Paris, or UTC'],
  ])('refuses %s: %s', (zone, hint) => {
    expect(() => localTime(zone)).toThrow(
      expect.objectContaining({
        code: 'DEFINITION_INVALID',
        message: `There is no time zone "${zone}"; ${hint}`,
        faults: [{ where: 'zone', message: `there is no time zone "${zone}"; ${hint}` }],
      }),
    )
  })
})
