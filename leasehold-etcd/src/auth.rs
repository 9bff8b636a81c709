//! etcd's service `Auth`, as a server whose authentication is off answers it: users and roles are names, and nothing checks them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tonic::{Request, Response, Result, Status};

use crate::proto::authpb::{Permission, permission};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::auth_server::Auth;
use crate::service::Etcd;

/// The name of etcd's user and role that may do everything.
const ROOT: &str = "root";

/// The users and roles of a service. They live as long as the service and its clones.
#[derive(Debug)]
pub(crate) struct Registry {
    names: Mutex<Names>,
}

#[derive(Debug)]
struct Names {
    /// The users with their roles.
    users: BTreeMap<String, BTreeSet<String>>,
    /// The roles with their permissions by key and range end.
    roles: BTreeMap<String, BTreeMap<(Bytes, Bytes), i32>>,
    /// The number of changes, plus one.
    revision: u64,
}

impl Default for Registry {
    fn default() -> Self {
        let names = Names { users: BTreeMap::new(), roles: BTreeMap::new(), revision: 1 };
        Self { names: Mutex::new(names) }
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Names) -> Result<()>) -> Result<()> {
        let mut names = self.lock();
        change(&mut names)?;
        names.revision += 1;
        Ok(())
    }
}

impl Names {
    fn user(&mut self, name: &str) -> Result<&mut BTreeSet<String>> {
        self.users.get_mut(name).ok_or_else(|| Status::failed_precondition("etcdserver: user name not found"))
    }

    fn role(&mut self, name: &str) -> Result<&mut BTreeMap<(Bytes, Bytes), i32>> {
        self.roles.get_mut(name).ok_or_else(|| Status::failed_precondition("etcdserver: role name not found"))
    }
}

/// The response to a change, which has only a header.
macro_rules! changed {
    ($etcd:ident, $response:ident, $change:expr) => {{
        $etcd.registry.change($change)?;
        Ok(Response::new(pb::$response { header: Some($etcd.member().await?) }))
    }};
}

#[tonic::async_trait]
impl Auth for Etcd {
    async fn auth_enable(
        &self,
        _request: Request<pb::AuthEnableRequest>,
    ) -> Result<Response<pb::AuthEnableResponse>> {
        match self.registry.lock().users.get(ROOT) {
            None => Err(Status::failed_precondition("etcdserver: root user does not exist")),
            Some(roles) if !roles.contains(ROOT) => {
                Err(Status::failed_precondition("etcdserver: root user does not have root role"))
            }
            Some(_) => Err(Status::unimplemented("a store has no authentication to enable")),
        }
    }

    async fn auth_disable(
        &self,
        _request: Request<pb::AuthDisableRequest>,
    ) -> Result<Response<pb::AuthDisableResponse>> {
        Ok(Response::new(pb::AuthDisableResponse { header: Some(self.member().await?) }))
    }

    async fn auth_status(
        &self,
        _request: Request<pb::AuthStatusRequest>,
    ) -> Result<Response<pb::AuthStatusResponse>> {
        let header = Some(self.member().await?);
        let auth_revision = self.registry.lock().revision;
        Ok(Response::new(pb::AuthStatusResponse { header, enabled: false, auth_revision }))
    }

    async fn authenticate(
        &self,
        _request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>> {
        Err(Status::failed_precondition("etcdserver: authentication is not enabled"))
    }

    async fn user_add(
        &self,
        request: Request<pb::AuthUserAddRequest>,
    ) -> Result<Response<pb::AuthUserAddResponse>> {
        let name = request.into_inner().name;
        changed!(self, AuthUserAddResponse, |names| {
            if name.is_empty() {
                return Err(Status::invalid_argument("etcdserver: user name is empty"));
            }
            if names.users.contains_key(&name) {
                return Err(Status::failed_precondition("etcdserver: user name already exists"));
            }
            names.users.insert(name, BTreeSet::new());
            Ok(())
        })
    }

    async fn user_get(
        &self,
        request: Request<pb::AuthUserGetRequest>,
    ) -> Result<Response<pb::AuthUserGetResponse>> {
        let header = Some(self.member().await?);
        let roles = self.registry.lock().user(&request.into_inner().name)?.iter().cloned().collect();
        Ok(Response::new(pb::AuthUserGetResponse { header, roles }))
    }

    async fn user_list(
        &self,
        _request: Request<pb::AuthUserListRequest>,
    ) -> Result<Response<pb::AuthUserListResponse>> {
        let header = Some(self.member().await?);
        let users = self.registry.lock().users.keys().cloned().collect();
        Ok(Response::new(pb::AuthUserListResponse { header, users }))
    }

    async fn user_delete(
        &self,
        request: Request<pb::AuthUserDeleteRequest>,
    ) -> Result<Response<pb::AuthUserDeleteResponse>> {
        let name = request.into_inner().name;
        changed!(self, AuthUserDeleteResponse, |names| {
            names.user(&name)?;
            names.users.remove(&name);
            Ok(())
        })
    }

    async fn user_change_password(
        &self,
        request: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Result<Response<pb::AuthUserChangePasswordResponse>> {
        let name = request.into_inner().name;
        changed!(self, AuthUserChangePasswordResponse, |names| names.user(&name).map(drop))
    }

    async fn user_grant_role(
        &self,
        request: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Result<Response<pb::AuthUserGrantRoleResponse>> {
        let pb::AuthUserGrantRoleRequest { user, role } = request.into_inner();
        let header = Some(self.member().await?);
        // etcd answers a repeated grant, which is no change.
        if self.registry.lock().user(&user)?.contains(&role) {
            return Ok(Response::new(pb::AuthUserGrantRoleResponse { header }));
        }
        changed!(self, AuthUserGrantRoleResponse, |names| {
            names.user(&user)?;
            // etcd grants the role `root` although no client has added it.
            if role != ROOT {
                names.role(&role)?;
            }
            names.user(&user)?.insert(role);
            Ok(())
        })
    }

    async fn user_revoke_role(
        &self,
        request: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Result<Response<pb::AuthUserRevokeRoleResponse>> {
        let pb::AuthUserRevokeRoleRequest { name, role } = request.into_inner();
        changed!(self, AuthUserRevokeRoleResponse, |names| {
            if names.user(&name)?.remove(&role) {
                return Ok(());
            }
            Err(Status::failed_precondition("etcdserver: role is not granted to the user"))
        })
    }

    async fn role_add(
        &self,
        request: Request<pb::AuthRoleAddRequest>,
    ) -> Result<Response<pb::AuthRoleAddResponse>> {
        let name = request.into_inner().name;
        changed!(self, AuthRoleAddResponse, |names| {
            if name.is_empty() {
                return Err(Status::invalid_argument("etcdserver: role name is empty"));
            }
            if names.roles.contains_key(&name) {
                return Err(Status::failed_precondition("etcdserver: role name already exists"));
            }
            names.roles.insert(name, BTreeMap::new());
            Ok(())
        })
    }

    async fn role_get(
        &self,
        request: Request<pb::AuthRoleGetRequest>,
    ) -> Result<Response<pb::AuthRoleGetResponse>> {
        let header = Some(self.member().await?);
        let role = request.into_inner().role;
        let mut names = self.registry.lock();
        let permissions = names.role(&role)?;
        let perm = if role == ROOT {
            // The range of all keys.
            vec![permission(permission::Type::Readwrite.into(), Bytes::new(), Bytes::from_static(b"\0"))]
        } else {
            let permissions = permissions.iter();
            permissions.map(|((key, end), kind)| permission(*kind, key.clone(), end.clone())).collect()
        };
        Ok(Response::new(pb::AuthRoleGetResponse { header, perm }))
    }

    async fn role_list(
        &self,
        _request: Request<pb::AuthRoleListRequest>,
    ) -> Result<Response<pb::AuthRoleListResponse>> {
        let header = Some(self.member().await?);
        let roles = self.registry.lock().roles.keys().cloned().collect();
        Ok(Response::new(pb::AuthRoleListResponse { header, roles }))
    }

    async fn role_delete(
        &self,
        request: Request<pb::AuthRoleDeleteRequest>,
    ) -> Result<Response<pb::AuthRoleDeleteResponse>> {
        let role = request.into_inner().role;
        changed!(self, AuthRoleDeleteResponse, |names| {
            names.role(&role)?;
            names.roles.remove(&role);
            names.users.values_mut().for_each(|roles| roles.retain(|granted| *granted != role));
            Ok(())
        })
    }

    async fn role_grant_permission(
        &self,
        request: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<pb::AuthRoleGrantPermissionResponse>> {
        let pb::AuthRoleGrantPermissionRequest { name, perm } = request.into_inner();
        changed!(self, AuthRoleGrantPermissionResponse, |names| {
            let Some(Permission { perm_type, key, range_end }) = perm else {
                return Err(Status::invalid_argument("etcdserver: permission not given"));
            };
            // Only an end of "\0", which means every key from the first one on, may be below the key.
            let is_range = range_end.is_empty() || range_end == "\0" || key < range_end;
            if !is_range || key.is_empty() {
                return Err(Status::invalid_argument("etcdserver: invalid auth management"));
            }
            names.role(&name)?.insert((key, range_end), perm_type);
            Ok(())
        })
    }

    async fn role_revoke_permission(
        &self,
        request: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<pb::AuthRoleRevokePermissionResponse>> {
        let pb::AuthRoleRevokePermissionRequest { role, key, range_end } = request.into_inner();
        changed!(self, AuthRoleRevokePermissionResponse, |names| {
            if names.role(&role)?.remove(&(key, range_end)).is_some() {
                return Ok(());
            }
            Err(Status::failed_precondition("etcdserver: permission is not granted to the role"))
        })
    }
}

fn permission(perm_type: i32, key: Bytes, range_end: Bytes) -> Permission {
    Permission { perm_type, key, range_end }
}
