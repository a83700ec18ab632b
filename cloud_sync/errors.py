"""Errors of the cloud service, named by what the caller does next.

CloudError
├── ConfigInvalid        stop and tell: an option or file is wrong; exit 78
├── StoreDown            retry: the object store does not answer or is full
├── ObjectMissing        tell: the catalog names an object that the store does not have or cannot read
├── PackCorrupt          set aside: an object is not a pack; go on without it
├── CatalogDown          retry: the database does not answer or refuses
├── PackExpired          drop the pack: its commit came after the deadline; senders send again
├── TooManyEpochs        refuse the gateway: its Hellos would fill the catalog
├── KeyUnusable          stop and tell: a signing key is missing, sealed otherwise, or not of this repository
├── RepositoryUnusable   stop and tell: the repository of releases is not there, or does not take this change
├── AssignmentImpossible  tell the caller: a gateway cannot have this assigned
├── JoinRefused          tell the device: the token is not good for what it asks
├── AccessDenied         tell the gateway: its certificate is not good any more
├── CredentialRefused    tell the person or program: the token, link or session is not good
├── NotFound             tell the caller: a token or gateway that is not there
└── QueryInvalid         tell the caller: a parameter is out of its bounds
"""


class CloudError(Exception):
    """Root of the service's errors."""


class ConfigInvalid(CloudError):
    """A setting, file or port is unusable. The message says which and what helps."""


class StoreDown(CloudError):
    """The object store cannot be read or written now."""


class ObjectMissing(CloudError):
    """No object under this key."""


class PackCorrupt(CloudError):
    """The object is not a pack, or was damaged or cut short."""


class CatalogDown(CloudError):
    """The database cannot be reached, is locked or refuses."""


class PackExpired(CloudError):
    """The pack's commit deadline has passed; nothing of it was stored."""


class TooManyEpochs(CloudError):
    """A gateway names more epochs than it can have had boots. Nothing of its Hello was kept."""


class JoinRefused(CloudError):
    """A device may not join. The message is for the person who runs `edge-agent join`."""


class AccessDenied(CloudError):
    """TLS accepts the certificate, the catalog does not: revoked, given back, or replaced by a newer one."""


class CredentialRefused(CloudError):
    """An API token, link or session that is unknown, expired or ended. The message says what helps."""


class NotFound(CloudError):
    """What a command names is not there."""


class AssignmentImpossible(CloudError):
    """What a gateway shall run does not fit into its assignment."""


class QueryInvalid(CloudError):
    """A query parameter is malformed or out of bounds."""


class KeyUnusable(CloudError):
    """A signing key cannot be read, or the repository does not know it."""


class RepositoryUnusable(CloudError):
    """The repository of releases is missing, damaged, or refuses what was asked."""
