import torch
from torchvision.datasets import CIFAR10, CIFAR100, MNIST, FashionMNIST

from repro.data.images import ImageSet, Read
from repro.data.torchvision_sets import Settings
from repro.pipeline.system.errors import UserError

READERS = {"mnist": MNIST, "fashion_mnist": FashionMNIST, "cifar10": CIFAR10, "cifar100": CIFAR100}


def load(settings: Settings) -> Read:
    reader, root = READERS[settings.kind], settings.root or "data"

    def read(train: bool) -> ImageSet:
        try:
            found = reader(root, train=train, download=settings.download)
        except RuntimeError:
            what = f"data.root={root}: holds no {reader.__name__}"
            raise UserError(f"{what}; data.download=true fetches it, data=mnist5k needs no files") from None
        images = torch.as_tensor(found.data)
        images = images.permute(0, 3, 1, 2).contiguous() if images.ndim == 4 else images[:, None]
        return ImageSet(images, torch.as_tensor(found.targets, dtype=torch.int64))

    return read(True), read(False)
