import { ApplicationFailure, condition, defineUpdate, proxyActivities, setHandler, sleep } from '@temporalio/workflow';

const { fail } = proxyActivities<{ fail(text: string): Promise<void> }>({
  startToCloseTimeout: 10_000,
  retry: { maximumAttempts: 1 },
});

const goOnUpdate = defineUpdate<string, [{ readonly reason: string }]>('goOn');

/** Repeats what it was given in every place that a payload can go: results, failures, summaries, updates. */
export async function leaky(input: { readonly subject: readonly { readonly value: string }[] }): Promise<void> {
  const text = input.subject[0]?.value ?? '';
  let goOn = false;
  setHandler(goOnUpdate, ({ reason }) => {
    goOn = true;
    return `${reason} ${text}`;
  });
  await condition(() => goOn);
  await sleep(1, { summary: text });
  try {
    await fail(text);
  } catch (error) {
    throw ApplicationFailure.create({
      message: `failed for ${text}`,
      type: 'Leaky',
      details: [text],
      cause: error as Error,
    });
  }
}
