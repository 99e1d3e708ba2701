/** `1 stream`, `2 streams`; for nouns whose plural ends in s. */
export function howMany(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}
