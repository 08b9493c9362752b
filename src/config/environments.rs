//! `environments` and `waitFor` of the settings: whose records are read, and why they are believed.

use std::path::PathBuf;

use super::reader::{Errors, Fields, Place};
use super::settings::Here;
use crate::api::{WaitFor, WaitMatch, duration};
use crate::git::{AllowedSigners, Reference};

/// Another environment, whose record lies in the same repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentSettings {
    /// Its name.
    pub name: String,
    /// The branch of its record.
    pub branch: Reference,
    /// Who has to have signed its tip; `None`: the branch is protected.
    pub signers: Option<PathBuf>,
}

/// Reads both.
pub(super) fn read(
    fields: &mut Fields,
    here: Here,
    errors: &mut Errors<'_>,
) -> (Vec<EnvironmentSettings>, Vec<WaitFor>) {
    let sections = fields.sections("environments", errors);
    let environments: Vec<_> = sections.into_iter().filter_map(|item| environment(item, here, errors)).collect();
    let sections = fields.sections("waitFor", errors);
    let mut awaited = Vec::new();
    for item in sections {
        let place = item.place_of(&["environment"]);
        let Some(want) = wait_for(item, errors) else { continue };
        if !environments.iter().any(|environment| environment.name == want.environment) {
            errors.add(
                place,
                &format!("`waitFor`: `{}` is no environment; name it in `environments`", want.environment),
            );
        }
        awaited.push(want);
    }
    (environments, awaited)
}

fn environment(mut item: Fields, here: Here, errors: &mut Errors<'_>) -> Option<EnvironmentSettings> {
    let at = item.place_of(&["name", "branch"]);
    let name = item.needed("name", errors);
    let branch = item.parsed("branch", errors, str::parse::<Reference>);
    let is_protected = item.flag("protected", errors).unwrap_or(false);
    let signers = item.text("allowedSignersFile", errors);
    item.finish(errors);
    let name = name?;
    match (&signers, is_protected) {
        (Some((_, place)), true) => {
            errors.add(*place, &format!("environment {name}: name `allowedSignersFile` or `protected: true`, not both"));
        }
        (None, false) => errors.add(
            at,
            &format!(
                "environment {name}: nothing says why its record is believed: name `allowedSignersFile`, or say `protected: true` \
                 if only its daemon may push to the branch"
            ),
        ),
        (Some((path, place)), false) if here == Here::Needed => check_signers(path, *place, errors),
        _ => {}
    }
    let default = || format!("serin/status/{name}").parse::<Reference>();
    let branch = match branch.map_or_else(default, Ok) {
        Ok(branch) => branch,
        Err(error) => {
            errors.add(at, &format!("environment {name}: {error}"));
            return None;
        }
    };
    Some(EnvironmentSettings { name, branch, signers: signers.map(|(path, _)| PathBuf::from(path)) })
}

fn check_signers(path: &str, place: Place, errors: &mut Errors<'_>) {
    let read = std::fs::read_to_string(path).map_err(|error| error.to_string());
    if let Err(reason) = read.and_then(|text| AllowedSigners::parse(&text)) {
        errors.add(place, &format!("`allowedSignersFile`: {path}: {reason}"));
    }
}

fn wait_for(mut item: Fields, errors: &mut Errors<'_>) -> Option<WaitFor> {
    let environment = item.needed("environment", errors);
    // Checked here, and read where it is used.
    let bake = item.parsed("bake", errors, |text| duration::parse(text).map(|_| text.to_owned()));
    let match_ = item.parsed("match", errors, parse_match).unwrap_or_default();
    item.finish(errors);
    Some(WaitFor { environment: environment?, bake, match_, canary: None })
}

fn parse_match(text: &str) -> Result<WaitMatch, String> {
    match text {
        "images" => Ok(WaitMatch::Images),
        "commit" => Ok(WaitMatch::Commit),
        "digest" => Ok(WaitMatch::Digest),
        other => Err(format!("`{other}` cannot be compared; use `images`, `commit` or `digest`")),
    }
}

#[cfg(test)]
mod tests {
    use crate::api::WaitMatch;
    use crate::config::{RunArgs, Settings};

    fn read(text: &str) -> Result<Settings, String> {
        let text = format!("cluster: {{name: prod}}\ngit: {{url: https://git.example.com/a.git}}\n{text}");
        Settings::from_text("serin.yaml", &text, &RunArgs::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn environments_say_why_they_are_believed() {
        let text = "environments:\n- {name: staging, protected: true}\n- {name: canary, branch: records/canary, allowedSignersFile: /k}\n\
            waitFor:\n- {environment: staging, bake: 24h}\n- {environment: canary, match: commit}\n";
        let settings = read(text).unwrap();
        let branches: Vec<&str> = settings.environments.iter().map(|it| it.branch.short()).collect();
        assert_eq!(branches, ["serin/status/staging", "records/canary"]);
        assert!(settings.environments[0].signers.is_none() && settings.environments[1].signers.is_some());
        assert_eq!(settings.wait_for[0].bake.as_deref(), Some("24h"));
        assert_eq!(settings.wait_for[1].match_, WaitMatch::Commit);
    }

    #[test]
    fn what_is_wrong_is_said_where_it_was_written() {
        let cases = [
            ("environments:\n- {name: staging}\n", "nothing says why its record is believed", "serin.yaml:4:4"),
            ("environments:\n- {protected: true}\n", "`environments[0].name` is missing", "serin.yaml:4:3"),
            ("environments:\n- {name: a, protected: true, allowedSignersFile: /k}\n", "not both", "serin.yaml:4:"),
            ("environments:\n- {name: 'a..b', protected: true}\n", "environment a..b", "serin.yaml:4:"),
            ("waitFor:\n- {environment: nowhere}\n", "`nowhere` is no environment", "serin.yaml:4:4"),
            ("waitFor:\n- {environment: nowhere, bake: soon}\n", "is not a duration", "serin.yaml:4:"),
            ("waitFor:\n- {environment: nowhere, match: tag}\n", "`tag` cannot be compared", "serin.yaml:4:"),
        ];
        for (text, expected, place) in cases {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected) && error.contains(place), "{text}: {error}");
        }
    }
}
