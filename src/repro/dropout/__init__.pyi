from repro.dropout.bernoulli.masks import Bernoulli as Bernoulli
from repro.dropout.distribution import MaskDistribution as MaskDistribution
from repro.dropout.dropblock.masks import DropBlock as DropBlock
from repro.dropout.dropconnect.masks import DropConnect as DropConnect
from repro.dropout.gaussian.masks import CorrelatedGaussian as CorrelatedGaussian
from repro.dropout.overlapping_dropblock.masks import OverlappingDropBlock as OverlappingDropBlock
