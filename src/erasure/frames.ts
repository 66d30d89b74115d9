/** The latest calls before an error was made; nothing of its message, of which a line may look like one. */
export function framesOf({ stack = '', message }: Error): readonly string[] {
  const after = stack.indexOf(message);
  if (after < 0) return [];
  return stack
    .slice(after + message.length)
    .split('\n')
    .filter((line) => /^\s+at /.test(line))
    .slice(0, 8)
    .map((line) => line.trim());
}
