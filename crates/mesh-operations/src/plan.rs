//! The steps that a saga declares.

/// A step of a saga.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub(super) name: &'static str,
    pub(super) is_remote: bool,
    pub(super) is_pivot: bool,
}

impl Step {
    /// A step that is one transaction in the database of the service.
    pub const fn local(name: &'static str) -> Self {
        Self { name, is_remote: false, is_pivot: false }
    }

    /// A step that calls another system.
    pub const fn remote(name: &'static str) -> Self {
        Self { name, is_remote: true, is_pivot: false }
    }

    /// The name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The step after which the saga only goes forward. A saga has one at most; without one it can be undone until its
    /// end.
    #[must_use]
    pub const fn pivot(self) -> Self {
        Self { is_pivot: true, ..self }
    }
}

/// Checks the steps of a kind.
///
/// # Errors
///
/// One line that says what is wrong.
pub(super) fn check(kind: &str, steps: &[Step]) -> Result<(), String> {
    let mut names: Vec<_> = steps.iter().map(|step| step.name).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("the saga `{kind}` has two steps of the name `{}`: rename one", twice[0]));
    }
    let pivots: Vec<_> = steps.iter().filter(|step| step.is_pivot).map(|step| step.name).collect();
    match pivots[..] {
        [] | [_] => Ok(()),
        [one, other, ..] => {
            Err(format!("the saga `{kind}` has two pivots, `{one}` and `{other}`: it can have one at most"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_one_name_and_two_pivots_are_refused() {
        let check = |steps: &[Step]| check("Rent", steps);
        assert_eq!(check(&[Step::local("a"), Step::remote("b").pivot(), Step::local("c")]), Ok(()));
        assert_eq!(check(&[]), Ok(()));
        let twice = check(&[Step::local("a"), Step::local("b"), Step::remote("a")]);
        assert_eq!(twice.unwrap_err(), "the saga `Rent` has two steps of the name `a`: rename one");
        let pivots = check(&[Step::local("a").pivot(), Step::remote("b").pivot()]);
        assert_eq!(pivots.unwrap_err(), "the saga `Rent` has two pivots, `a` and `b`: it can have one at most");
    }
}
