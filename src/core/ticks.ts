/**
 * When items are due, on the wall clock, and which offset a tick has.
 *
 * 1. An item is due at `phase + k * interval` for every whole k, in milliseconds since the epoch; the phase comes of its id
 *    alone, so that items are spread evenly and nothing need be remembered.
 * 2. Offsets are times: 1,024 places in every millisecond. The place of an item in its millisecond comes of its id, too.
 */
import { stableHash } from './stable-hash.ts'

/** Offsets per millisecond. 2^53 of them last until the year 2248. */
export const placesPerMs = 1_024

const phaseSeed = 0x5eed_0001
const placeSeed = 0x5eed_0002

/** 0 to `intervalMs - 1`. */
export const phaseOf = (id: string, intervalMs: number): number => stableHash(id, phaseSeed) % intervalMs

/** 0 to 1,023. */
export const placeOf = (id: string): number => stableHash(id, placeSeed) % placesPerMs

/** The first tick at `fromMs` or later. */
export function tickFrom(phaseMs: number, intervalMs: number, fromMs: number): number {
  return phaseMs + Math.ceil((fromMs - phaseMs) / intervalMs) * intervalMs
}

/** The last tick at `byMs` or before. */
export function tickBy(phaseMs: number, intervalMs: number, byMs: number): number {
  return phaseMs + Math.floor((byMs - phaseMs) / intervalMs) * intervalMs
}

export const offsetOf = (ms: number, place = 0): number => ms * placesPerMs + place

/** The millisecond in which an offset lies. */
export const timeOfOffset = (offset: number): number => Math.floor(offset / placesPerMs)
