import numpy as np
import torch

from holdfast_worker.noise import gaussian


def plain_margins(guard, draws):
    """One full forward pass per draw and cell, by the model's own path: no cache, no packing, full logits."""
    model, prompt, prepared = guard._model, guard._prompt, draws.prepared
    noise = gaussian(draws.seed, draws.start, draws.stop, prepared.clean.shape, guard.device)
    images = (prepared.clean + draws.sigma * noise).mul(255).round().clamp(0, 255) / 255
    margins = np.empty(draws.tails.shape[:2])
    for i, cell in np.ndindex(margins.shape):
        ids = torch.tensor([*prepared.prefix.tolist(), *draws.tails[i, cell], *prompt.after])[None]
        pixels = (images[i] - 0.5) / 0.5
        with torch.inference_mode():
            logits = model(
                input_ids=ids,
                pixel_values=pixels[None, None],
                image_sizes=torch.tensor([[32, 32]]),
                batch_num_images=[2],
            ).logits[0, -1]
        margins[i, cell] = logits[[*prompt.unsafe]].logsumexp(0) - logits[[*prompt.safe]].logsumexp(0)
    return margins


def test_prefix_reuse_equals_the_plain_forward(guard, draw):
    draws = draw(guard, 3, 8)
    np.testing.assert_allclose(guard.margins([draws])[0], plain_margins(guard, draws), atol=1e-5)
