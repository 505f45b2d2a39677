"""XFactor (Mitchel, Ryu, Sitzmann, arXiv:2510.13063): no cameras, but latent poses that go from video to video."""

from torch import nn

from models.xfactor.config import XFactorConfig
from models.xfactor.networks import PoseEncoder, Renderer, initialise


class XFactor(nn.Module):
    def __init__(self, config, *, init_weights=True):
        super().__init__()
        self.pose_encoder, self.renderer = PoseEncoder(config.network), Renderer(config.network)
        if init_weights:
            initialise(self)

    def parts(self):
        return {"pose_encoder": self.pose_encoder, "renderer": self.renderer}
