"""Attention of several views of a scene to each other, without parameters of its own and without state.

In every self-attention layer the views of a scene form one sequence; attention to the text stays per view.
How many views there are comes with the call (`cross_attention_kwargs={"num_views": v}`), and views of a scene
are adjacent in the batch.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class JointAttention:
    """A diffusers attention processor, for self-attention across `num_views` views and for text."""

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        num_views: int = 1,
    ) -> Tensor:
        """Attend: [n, l, c], n views, l tokens each. Raises ValueError where scenes would be incomplete."""
        n, length, _ = hidden_states.shape
        if n % num_views:
            raise ValueError(f"{n} views are no whole number of scenes of {num_views} views each")
        context = encoder_hidden_states
        if context is None:
            hidden_states = context = hidden_states.reshape(n // num_views, num_views * length, -1)
        query, key, value = (
            tensor.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for tensor in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=attn.scale)
        mixed = mixed.transpose(1, 2).flatten(2).to(query.dtype)
        return attn.to_out[1](attn.to_out[0](mixed)).reshape(n, length, -1)


def attend_jointly(model: nn.Module) -> None:
    """Let all attention layers of a U-Net or ControlNet take `num_views`."""
    model.set_attn_processor(JointAttention())
